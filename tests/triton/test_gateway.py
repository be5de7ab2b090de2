"""This server as a gateway to real Tritons: the embedded engine's answers, and clear errors while a Triton is dead."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from loadtest.conformance.__main__ import main as conform
from loadtest.process import Server, start_server, wait_until
from loadtest.triton import Triton, start_triton
from server.models.manifest import Manifest
from tests.triton.conftest import TRITON

pytestmark = pytest.mark.triton

NUM_CLIENTS = 8
TIMES = {"queue_ms", "read_ms", "trunk_ms", "total_ms"}
NOT_READY_S = 5.0
"""How soon readiness has to follow a Triton that is killed."""
BACK_S = 10.0
"""How soon calls have to be answered again once it is back."""


def start_gateway(addresses: str, repository: Path) -> AbstractContextManager[Server]:
    return start_server("--backend", "triton", "--triton-url", addresses, "--model-repository", str(repository))


@pytest.fixture(scope="module")
def gateway(repository: Path, triton: Triton) -> Iterator[Server]:
    with start_gateway(triton.grpc, repository) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def embedded_server(repository: Path) -> Iterator[Server]:
    with start_server("--model-repository", str(repository), "--intra-op-threads", "1") as server:
        yield server


def body(images: np.ndarray, caps: list[int] | None = None, **parameters: object) -> dict:
    """Return an infer request in JSON."""
    inputs = [{"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}]
    if caps is not None:
        inputs.append({"name": "max_tape", "datatype": "INT32", "shape": [len(caps), 1], "data": caps})
    return {"inputs": inputs, "parameters": parameters}


def ask(server: Server, family: str, request: dict) -> dict:
    response = httpx.post(f"{server.url}/v2/models/{family}/infer", json=request, timeout=60)
    assert response.status_code == 200, response.text
    return response.json()


def numbers(text: str, name: str) -> dict[str, float]:
    """Return the samples of a metric by their labels."""
    lines = [line for line in text.splitlines() if line.startswith(name + "{")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_answers_and_receipts_are_the_embedded_engines(
    gateway: Server, embedded_server: Server, manifest: Manifest, images: np.ndarray
):
    for caps in (None, [index % (manifest.tape_capacity + 1) for index in range(len(images))]):
        ours, theirs = (ask(server, manifest.family, body(images, caps)) for server in (gateway, embedded_server))
        for one, other in zip(ours["outputs"], theirs["outputs"], strict=True):
            assert (one["name"], one["shape"]) == (other["name"], other["shape"])
            np.testing.assert_allclose(one["data"], other["data"], rtol=0, atol=1e-4)
        assert {key: value for key, value in ours["parameters"].items() if key not in TIMES} == {
            key: value for key, value in theirs["parameters"].items() if key not in TIMES
        }


@pytest.mark.parametrize("cap", [0, 1, 2, 3, 4])
def test_the_receipt_of_one_sample_is_the_embedded_engines(
    gateway: Server, embedded_server: Server, manifest: Manifest, images: np.ndarray, cap: int
):
    request = body(images[:1], max_tape=cap)
    ours, theirs = (
        {key: value for key, value in ask(server, manifest.family, request)["parameters"].items() if key not in TIMES}
        for server in (gateway, embedded_server)
    )
    assert ours == theirs
    assert ours["cap"] == cap


def test_flops_of_receipts_add_up_to_the_metrics(gateway: Server, manifest: Manifest, images: np.ndarray):
    def counted() -> float:
        text = httpx.get(f"{gateway.url}/metrics").text
        kinds = numbers(text, "adatape_flops_total")
        return sum(value for labels, value in kinds.items() if 'kind="useful"' in labels and manifest.family in labels)

    before = counted()
    receipts = [ask(gateway, manifest.family, body(images[:3], [0, 2, 4]))["parameters"] for _ in range(4)]
    assert counted() - before == sum(receipt["useful_flops"] for receipt in receipts)


def test_every_surface_is_there(gateway: Server, manifest: Manifest):
    with httpx.Client(base_url=gateway.url) as client:
        for path in ("/v1/models", f"/v1/models/{manifest.family}/curve", "/docs", "/metrics", "/readyz"):
            assert client.get(path).status_code == 200, path


class Load:
    """Clients that keep asking; every outcome is counted."""

    def __init__(self, url: str, family: str, request: dict) -> None:
        self._url = f"{url}/v2/models/{family}/infer"
        self._request = request
        self.statuses: Counter[int] = Counter()
        self.failures: list[httpx.Response] = []
        self.is_over = False

    async def run(self) -> None:
        async with httpx.AsyncClient(timeout=30) as client:
            while not self.is_over:
                response = await client.post(self._url, json=self._request)
                self.statuses[response.status_code] += 1
                if response.status_code != 200:
                    self.failures.append(response)
                    await asyncio.sleep(0.02)


@asynccontextmanager
async def loaded(url: str, family: str, images: np.ndarray) -> AsyncIterator[Load]:
    """Keep a server busy; a client that meets anything but an HTTP answer fails the test."""
    load = Load(url, family, body(images[:1]))
    async with asyncio.TaskGroup() as group:
        for _ in range(NUM_CLIENTS):
            group.create_task(load.run())
        try:
            yield load
        finally:
            load.is_over = True


async def once(is_true) -> None:
    """Wait until a question, asked off the event loop, is answered with yes."""
    await asyncio.to_thread(wait_until, is_true, 60, "what the test waits for")


def readiness(url: str) -> int:
    return httpx.get(f"{url}/v2/health/ready").status_code


async def test_a_killed_triton_costs_clear_errors_and_comes_back(
    repository: Path, manifest: Manifest, images: np.ndarray
):
    with (
        start_triton(TRITON, repository) as triton,
        start_server(
            "--backend", "triton", "--triton-url", triton.grpc, "--model-repository", str(repository)
        ) as gateway,
    ):
        url = gateway.url
        async with loaded(url, manifest.family, images) as load:
            await once(lambda: load.statuses[200] > 20)
            await asyncio.to_thread(triton.kill)
            await asyncio.to_thread(
                wait_until, lambda: readiness(url) == 503, NOT_READY_S, "a server that is not ready"
            )
            model_ready = await asyncio.to_thread(httpx.get, f"{url}/v2/models/{manifest.family}/ready")
            await once(lambda: load.statuses[503] > 20)
            await asyncio.to_thread(triton.start)
            await asyncio.to_thread(wait_until, lambda: readiness(url) == 200, BACK_S, "a server that is ready")
            answered = load.statuses[200]
            await once(lambda: load.statuses[200] > answered + 20)
        assert set(load.statuses) == {200, 503}
        assert {response.headers["retry-after"] for response in load.failures} == {"1"}
        assert all("expected" in response.json()["error"] for response in load.failures)
        assert model_ready.status_code == 503
        assert gateway.is_running
    assert "Traceback" not in gateway.log


async def test_of_two_tritons_one_may_die_unnoticed(repository: Path, manifest: Manifest, images: np.ndarray):
    with start_triton(TRITON, repository) as first, start_triton(TRITON, repository) as second:
        urls = f"{first.grpc},{second.grpc}"
        with start_server(
            "--backend", "triton", "--triton-url", urls, "--model-repository", str(repository)
        ) as gateway:
            async with loaded(gateway.url, manifest.family, images) as load:
                await once(lambda: load.statuses[200] > 20)
                await asyncio.to_thread(first.kill)
                answered = load.statuses[200]
                await once(lambda: load.statuses[200] > answered + 50)
                assert await asyncio.to_thread(readiness, gateway.url) == 200
            assert set(load.statuses) == {200}, [response.text for response in load.failures]
            await once(lambda: f"triton_down address={first.grpc}" in gateway.log)


def test_a_gateway_may_start_before_its_triton(repository: Path, manifest: Manifest, images: np.ndarray):
    triton = Triton(TRITON, repository)
    with start_server(
        "--backend", "triton", "--triton-url", triton.grpc, "--model-repository", str(repository)
    ) as gateway:
        assert readiness(gateway.url) == 503
        refused = httpx.post(f"{gateway.url}/v2/models/{manifest.family}/infer", json=body(images[:1]))
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        triton.start()
        try:
            wait_until(lambda: readiness(gateway.url) == 200, BACK_S, "a server that is ready")
            assert ask(gateway, manifest.family, body(images))["model_name"] == manifest.family
        finally:
            triton.stop()


def test_the_gateway_passes_the_conformance_kit(
    gateway: Server, manifest: Manifest, capsys: pytest.CaptureFixture[str]
):
    address, grpc = gateway.url.removeprefix("http://"), gateway.grpc
    hints = ["--model", manifest.family, "--option", "max_tape=2", "--parameter", "max_tape=3"]
    assert conform(["--http", address, "--grpc", grpc, *hints]) == 0, capsys.readouterr().out
