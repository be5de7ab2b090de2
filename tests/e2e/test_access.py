"""A real server with keys: open to whom it says, over TLS too, with no key in its log, and keys that rotate."""

import re
import socket
import ssl
import time

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from loadtest.process import start_server
from server.backends.fake import FAMILY
from server.tenancy import make_key
from tests.server.process.certificates import write_pair
from tests.server.surface import photo
from tests.server.tenancy.tenants import ACME, ACME_HASH, ADMIN, STRANGER, bearer, write_tenants
from tests.server.test_main import start

PATIENCE_S = 20.0


def classify(url, key=None, **options):
    headers = bearer(key) if key else {}
    return httpx.post(f"{url}/v1/classify", content=photo(), headers=headers, timeout=60, **options).status_code


def ask_bare(url, target, headers, method="GET", host="localhost"):
    """Send a request as it is written, which no library does."""
    fields = {"Host": host, "Content-Length": "0", "Connection": "close", **headers}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).encode())
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--host", "0.0.0.0"],
            "host; got 0.0.0.0, which others can reach; expected require_auth with keys, or insecure",
        ),
        (["--host", "::"], "host; got ::, which others can reach"),
        (["--admin-port", "0", "--admin-host", "0.0.0.0"], "which others can reach"),
        (["--require-auth"], "require_auth; got no keys; expected tenants_file or api_keys, else nobody could get in"),
        (["--tls-cert", "cert.pem"], "tls_cert and tls_key; got one of the two; expected both or neither"),
        (["--tls-cert", "no.pem", "--tls-key", "no.pem"], "TLS files; got no.pem and no.pem: [Errno 2] No such file"),
        (["--cors-origin", "*"], "cors_origin.0; got *; expected: an origin such as https://app.example"),
        (
            ["--allowed-host", "http://a"],
            "allowed_host.0; got http://a; expected: a host's name or address",
        ),
        (["--tenants-file", "no.toml"], "tenants_file; got no.toml: No such file or directory"),
    ],
)
def test_it_does_not_start_open_by_mistake(arguments, message):
    stopped = start("--backend", "fake", *arguments)
    assert stopped.returncode == 1
    assert message in stopped.stderr
    assert len(stopped.stderr.splitlines()) == 1


def test_it_does_not_start_closed_to_everyone(tmp_path):
    path = tmp_path / "tenants.toml"
    path.write_text("[tenants.acme]")
    stopped = start("--backend", "fake", "--require-auth", "--tenants-file", str(path))
    assert stopped.stderr == "require_auth; got no keys; expected one in tenants_file or api_keys at least\n"


def test_a_key_in_place_of_a_hash_line_is_not_logged():
    stopped = start("--backend", "fake", ADATAPE_API_KEYS=f"acme={ACME}")
    assert stopped.returncode == 1
    assert "hash line; got something else" in stopped.stderr
    assert ACME not in stopped.stderr


def test_keys_rotate_and_none_is_logged(tmp_path):
    path, (fresh, kept) = write_tenants(tmp_path), make_key()
    arguments = ("--host", "0.0.0.0", "--require-auth", "--tenants-file", str(path), "--quota-store", "memory")
    with start_server("--backend", "fake", *arguments, "--quota-sync-s", "0.05", "--log-level", "debug") as running:
        url = running.url.replace("0.0.0.0", "127.0.0.1")
        assert [classify(url), classify(url, STRANGER), classify(url, ACME)] == [401, 401, 200]
        assert httpx.get(f"{url}/metrics").status_code == 200
        path.write_text(f'[tenants.acme]\nkeys = ["{kept.line}"]')
        give_up = time.monotonic() + PATIENCE_S
        while classify(url, fresh) != 200:
            assert time.monotonic() < give_up, running.log
        assert classify(url, ACME) == 401
        metrics = httpx.get(f"{url}/metrics").text
    for text in (running.log, metrics):
        assert [key for key in (ACME, ADMIN, STRANGER, fresh, "adk_") if key in text] == []
    assert "tenants_read tenants=1 keys=1" in running.log


def test_the_admin_port_is_another(tmp_path):
    arguments = ("--tenants-file", str(write_tenants(tmp_path)), "--admin-port", "0", "--quota-store", "memory")
    with start_server("--backend", "fake", *arguments) as running:
        admin_url = re.search(r"admin url=(\S+)", running.log).group(1)
        seen = [httpx.get(f"{url}/v1/controller", headers=bearer(ADMIN)) for url in (running.url, admin_url)]
        assert [response.status_code for response in seen] == [403, 200]
        for target in ("/v1/keys", "/v1/keys%0A", "http://localhost/v1/keys%0a", "//v1/keys%0A", "/v1%2Fkeys%0A"):
            for key in (None, ACME, ADMIN):
                answer = ask_bare(running.url, target, bearer(key) if key else {})
                assert answer.split()[1] in {b"401", b"403", b"404"}, (target, key)
                assert b"is_admin" not in answer


def test_a_page_under_a_name_of_its_own_cannot_unload_a_model():
    with start_server("--backend", "fake", "--allowed-host", "models.example") as running:
        target = f"/v2/repository/models/{FAMILY}/load"
        for host, headers, expected in [
            ("evil.example", {}, b"403"),
            ("localhost", {"Origin": "http://evil.example"}, b"403"),
            ("localhost", {"Sec-Fetch-Site": "cross-site"}, b"403"),
            ("models.example", {"Origin": "https://models.example", "Sec-Fetch-Site": "same-origin"}, b"200"),
            ("localhost", {}, b"200"),
        ]:
            assert ask_bare(running.url, target, headers, method="POST", host=host).split()[1] == expected


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("tls"))


@pytest.mark.parametrize("is_mutual", [False, True])
def test_tls_on_both_ports(certificate, is_mutual):
    cert, key = certificate
    authority = ("--tls-client-ca", str(cert)) if is_mutual else ()
    files = ("--tls-cert", str(cert), "--tls-key", str(key), *authority)
    context = ssl.create_default_context(cafile=cert)
    with start_server(
        "--backend", "fake", *files, "--quota-store", "memory", variables={"ADATAPE_API_KEYS": f"acme={ACME_HASH.line}"}
    ) as running:
        assert running.url.startswith("https://")
        if is_mutual:
            with pytest.raises(httpx.HTTPError):
                classify(running.url, ACME, verify=context)
            context.load_cert_chain(cert, key)
        assert classify(running.url, ACME, verify=context) == 200
        with pytest.raises(httpx.HTTPError):
            classify(running.url.replace("https", "http"), ACME)
        mine = {"private_key": key.read_bytes(), "certificate_chain": cert.read_bytes()} if is_mutual else {}
        credentials = grpc.ssl_channel_credentials(cert.read_bytes(), **mine)
        with grpc.secure_channel(running.grpc, credentials) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            metadata = (("authorization", f"Bearer {ACME}"),)
            assert stub.ServerMetadata(service_pb2.ServerMetadataRequest(), metadata=metadata, timeout=30).name


def test_a_renewed_certificate_is_taken_on(tmp_path):
    cert, key = write_pair(tmp_path)
    with start_server("--backend", "fake", "--tls-cert", str(cert), "--tls-key", str(key)) as running:
        assert classify(running.url, verify=ssl.create_default_context(cafile=cert)) == 200
        write_pair(tmp_path)
        context = ssl.create_default_context(cafile=cert)
        give_up = time.monotonic() + PATIENCE_S
        while "tls_read chain=" not in running.log:
            assert time.monotonic() < give_up, running.log
            time.sleep(0.05)
        assert classify(running.url, verify=context) == 200
        assert 'adatape_tls_reads_total{result="ok"} 1' in httpx.get(f"{running.url}/metrics", verify=context).text
