"""Certificates that are renewed while their server runs: real ones, real handshakes, on both ports."""

import asyncio
import ssl
from contextlib import asynccontextmanager

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from server.dataplane import DataPlane
from server.engine import build_engine
from server.metrics import Metrics
from server.oip_grpc import GrpcServer
from server.process.tls import read_certificates
from server.settings import Settings
from tests.server.process.certificates import write_pair

HANDSHAKE_S = 20


class World:
    """Both ports with one identity: a bare HTTPS listener and the gRPC server."""

    def __init__(self, folder, metrics, certificates, https, address):
        self.folder, self.metrics, self.certificates = folder, metrics, certificates
        self.port, self.address = https.sockets[0].getsockname()[1], address

    async def is_trusted(self, chain, mine=None):
        """Say for HTTPS and for gRPC whether a client that trusts this chain alone is served."""
        return await self._https(chain, mine), await self._grpc(chain, mine)

    async def _https(self, chain, mine):
        context = ssl.create_default_context(cadata=chain.decode())
        if mine:
            context.load_cert_chain(*mine)
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
                said = await reader.read(2)
        except (ssl.SSLError, ConnectionError):
            return False
        writer.transport.abort()
        return said == b"ok"

    async def _grpc(self, chain, mine):
        pair = [path.read_bytes() for path in reversed(mine)] if mine else [None, None]
        credentials = grpc.ssl_channel_credentials(chain, *pair)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(self.address, credentials, options=options) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                return (await stub.ServerLive(pb.ServerLiveRequest(), timeout=HANDSHAKE_S)).live
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False

    @property
    def reads(self):
        return {result: count for (result,), count in self.metrics.tls_reads.values.items()}

    @property
    def is_last_read_ok(self):
        (sample,) = self.metrics.tls_last_read_ok.collect().samples
        return bool(sample.value)


@asynccontextmanager
async def serving(folder, **overrides):
    cert, key = folder / "cert.pem", folder / "key.pem"
    settings = Settings(backend="fake", grpc_port=0, tls_cert=cert, tls_key=key, **overrides)
    metrics = Metrics()
    certificates = read_certificates(settings, metrics)
    engine = build_engine(settings, metrics)
    await engine.start()
    server = GrpcServer(DataPlane(engine, settings), metrics, settings, certificates)
    https = await asyncio.start_server(say_ok, "127.0.0.1", 0, ssl=certificates.context)
    try:
        yield World(folder, metrics, certificates, https, await server.start())
    finally:
        https.close()
        await server.stop(1)
        await engine.drain(1)


async def say_ok(_, writer):
    writer.write(b"ok")
    await writer.drain()
    writer.close()


async def test_new_connections_get_the_new_certificate(tmp_path):
    cert, _ = write_pair(tmp_path)
    old = cert.read_bytes()
    async with serving(tmp_path) as world:
        assert await world.is_trusted(old) == (True, True)
        await world.certificates.refresh()
        assert world.reads == {"ok": 0, "refused": 0}
        write_pair(tmp_path)
        await world.certificates.refresh()
        assert world.reads == {"ok": 1, "refused": 0}
        assert await world.is_trusted(cert.read_bytes()) == (True, True)
        assert await world.is_trusted(old) == (False, False)


async def test_open_connections_outlive_a_renewal(tmp_path):
    cert, _ = write_pair(tmp_path)
    async with serving(tmp_path) as world:
        credentials = grpc.ssl_channel_credentials(cert.read_bytes())
        async with grpc.aio.secure_channel(world.address, credentials) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            assert (await stub.ServerLive(pb.ServerLiveRequest())).live
            write_pair(tmp_path)
            await world.certificates.refresh()
            assert (await stub.ServerLive(pb.ServerLiveRequest())).live


def swap_the_key(folder):
    old = (folder / "cert.pem").read_bytes()
    write_pair(folder)
    (folder / "cert.pem").write_bytes(old)


BROKEN = {
    "another key": (swap_the_key, "KEY_VALUES_MISMATCH"),
    "no PEM": (lambda folder: (folder / "cert.pem").write_text("nothing"), "NO_START_LINE|PEM|NO_CERTIFICATE"),
    "half a key": (lambda folder: (folder / "key.pem").write_text("-----BEGIN PRIVATE KEY-----"), "PEM|BAD_END_LINE"),
    "no file": (lambda folder: (folder / "key.pem").unlink(), "No such file"),
    "a pass phrase": (lambda folder: write_pair(folder, pass_phrase="secret"), "wants a pass phrase"),
}


@pytest.mark.parametrize(("damage", "reason"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_pair_keeps_the_old_one_and_says_why(tmp_path, caplog, damage, reason):
    cert, _ = write_pair(tmp_path)
    old = cert.read_bytes()
    async with serving(tmp_path) as world:
        damage(tmp_path)
        for _ in range(3):
            await world.certificates.refresh()
        assert world.reads == {"ok": 0, "refused": 1}
        assert not world.is_last_read_ok
        (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
        assert line.startswith("tls_refused reason=")
        assert any(word in line for word in reason.split("|")), line
        assert "PRIVATE" not in line
        assert await world.is_trusted(old) == (True, True)
        (tmp_path / "key.pem").unlink(missing_ok=True)
        write_pair(tmp_path)
        await world.certificates.refresh()
        assert world.reads == {"ok": 1, "refused": 1}
        assert world.is_last_read_ok
        assert await world.is_trusted(cert.read_bytes()) == (True, True)


async def test_files_that_are_being_written_are_left_for_the_next_look(tmp_path, monkeypatch):
    write_pair(tmp_path)
    async with serving(tmp_path) as world:
        read, looks = world.certificates._read, []

        def read_while_written():
            looks.append(read())
            if len(looks) == 1:
                write_pair(tmp_path)
            return looks[-1]

        swap_the_key(tmp_path)
        monkeypatch.setattr(world.certificates, "_read", read_while_written)
        await world.certificates.refresh()
        assert (world.reads, len(looks)) == ({"ok": 0, "refused": 0}, 2)
        await world.certificates.refresh()
        assert world.reads == {"ok": 1, "refused": 0}


async def test_the_clients_authority_is_renewed_too(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    first = write_pair(theirs)
    authority = tmp_path / "authority.pem"
    authority.write_bytes(first[0].read_bytes())
    cert, _ = write_pair(tmp_path)
    async with serving(tmp_path, tls_client_ca=authority) as world:
        chain = cert.read_bytes()
        assert await world.is_trusted(chain, first) == (True, True)
        assert await world.is_trusted(chain) == (False, False)
        second = write_pair(theirs, "somebody else")
        assert await world.is_trusted(chain, second) == (False, False)
        authority.write_bytes(second[0].read_bytes())
        await world.certificates.refresh()
        assert await world.is_trusted(chain, second) == (True, True)


def test_a_server_does_not_start_with_a_key_that_wants_a_pass_phrase(tmp_path):
    cert, key = write_pair(tmp_path, pass_phrase="secret")
    with pytest.raises(ValueError, match=r"TLS files; got .* wants a pass phrase"):
        read_certificates(Settings(tls_cert=cert, tls_key=key), Metrics())
