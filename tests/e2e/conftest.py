"""Servers that the end-to-end tests share: the fake backend, and each shipped family on the real one."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from loadtest.process import ROOT, Server, start_server

SHIPPED = sorted({path.parts[-3] for path in ROOT.glob("model_repository/*/*/manifest.json")})
CASES = [("fake", "adatape_fake"), *(("ort", family) for family in SHIPPED)]


@pytest.fixture(scope="session", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    """A running server, and the family to ask for."""
    backend, family = request.param
    with start_server("--backend", backend) as running:
        yield running, family
        assert running.is_running, running.log


@pytest.fixture
def server(case: tuple[Server, str]) -> Server:
    return case[0]


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture
def model(case: tuple[Server, str], client: httpx.Client) -> dict[str, Any]:
    """The family, as the server describes it."""
    response = client.get(f"/v1/models/{case[1]}")
    assert response.status_code == 200, response.text
    return response.json()
