"""Every check passes on a sound server and fails on some broken one: a check that cannot fail is worth nothing."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import NoReturn

import grpc
import pytest

from loadtest.conformance.http import Response
from loadtest.conformance.runner import Verdict
from tests.loadtest.conformance.conftest import CHECKS, HINTS, Judge
from tests.loadtest.conformance.proxies import Closes, Refuses, Request, relaying, serving

ENCODED = replace(HINTS, inputs=("encoded",))
JSON = (("content-type", "application/json"),)


def says_yes(_: Request) -> Response:
    return Response(200, JSON, b"{}")


def says_no(_: Request) -> Response:
    return Response(500, (("content-type", "text/plain"),), b"no")


def hangs_up(_: Request) -> NoReturn:
    raise Closes


def knows_nothing(_method: str, _request: bytes, reply: bytes) -> bytes:
    return reply


def refuses_all(_method: str, _request: bytes, _reply: bytes) -> NoReturn:
    raise Refuses(grpc.StatusCode.DATA_LOSS, "")


@contextmanager
def broken(answer: Callable[[Request], Response], change) -> Iterator[dict[str, str]]:
    with ExitStack() as stack:
        yield {
            "http": stack.enter_context(serving(answer)),
            "grpc": stack.enter_context(relaying(None, change)),
        }


@pytest.fixture(scope="module")
def broken_servers() -> Iterator[list[dict[str, str]]]:
    kinds = ((says_yes, knows_nothing), (says_no, refuses_all), (hangs_up, refuses_all))
    with ExitStack() as stack:
        yield [stack.enter_context(broken(*kind)) for kind in kinds]


def test_there_are_as_many_checks_as_promised():
    assert len(CHECKS) >= 80
    assert {check.level.name for check in CHECKS.values()} == {"MUST", "TRITON", "ROBUST"}


@pytest.mark.parametrize("name", CHECKS)
def test_check_says_what_it_checks(name: str):
    check = CHECKS[name]
    assert check.statement.endswith(".")
    assert check.source


@pytest.mark.parametrize("name", CHECKS)
def test_check_passes_on_a_sound_server(judge: Judge, name: str):
    results = [judge(name, hints=hints) for hints in (HINTS, ENCODED)]
    assert Verdict.FAIL not in {result.verdict for result in results}, [result.reason for result in results]
    assert Verdict.PASS in {result.verdict for result in results}, [result.reason for result in results]


@pytest.mark.parametrize("name", CHECKS)
def test_check_can_fail(judge: Judge, broken_servers: list[dict[str, str]], name: str):
    judged = (judge(name, hints=hints, **addresses) for hints in (HINTS, ENCODED) for addresses in broken_servers)
    assert any(result.verdict is Verdict.FAIL for result in judged)
