"""A sound server, and how to run checks against what stands before it."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from loadtest.conformance.http import Http
from loadtest.conformance.model import Hints
from loadtest.conformance.registry import Check, all_checks
from loadtest.conformance.rpc import Rpc
from loadtest.conformance.runner import Result, run_one
from loadtest.conformance.target import Target, discover
from loadtest.process import Server, start_server
from tests.e2e.test_classify import picture

CHECKS = {check.name: check for check in all_checks()}
BROKEN_S = 2.0
"""How long to wait for a server that may never answer."""
HINTS = Hints(options={"max_tape": 2}, parameters={"max_tape": 4}, data={"encoded": picture()})


@pytest.fixture(scope="session")
def sound() -> Iterator[Server]:
    with start_server("--backend", "fake") as running:
        yield running


@pytest.fixture(scope="session")
def http(sound: Server) -> str:
    return sound.url.removeprefix("http://")


@pytest.fixture(scope="session")
def grpc_address(sound: Server) -> str:
    return sound.grpc


@pytest.fixture(scope="session")
def target(http: str, grpc_address: str) -> Iterator[Target]:
    found = discover(http, grpc_address, "adatape_fake", HINTS)
    yield found
    found.rpc.close()


Judge = Callable[..., Result]


@pytest.fixture
def judge(target: Target) -> Iterator[Judge]:
    """Run one check against other addresses, the model being known."""
    rpcs: list[Rpc] = []

    def run(check: Check | str, *, http: str | None = None, grpc: str | None = None, hints: Hints = HINTS) -> Result:
        made = replace(target, model=replace(target.model, hints=hints))
        if http is not None:
            made.http = Http(http, BROKEN_S, target.seen.append)
        if grpc is not None:
            made.grpc = Rpc(grpc, BROKEN_S, target.seen.append)
            rpcs.append(made.grpc)
        return run_one(CHECKS[check] if isinstance(check, str) else check, made)

    yield run
    for rpc in rpcs:
        rpc.close()
