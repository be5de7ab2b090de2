"""Runs checks and judges their outcomes."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import grpc

from loadtest.conformance.expect import Failure, Skip
from loadtest.conformance.registry import Check
from loadtest.conformance.target import Target


class Verdict(StrEnum):
    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one check. `seen` are the statuses and codes that the server gave, in order.

    Units: seconds.
    """

    check: Check
    verdict: Verdict
    reason: str
    seen: tuple[str, ...]
    seconds: float


def run(checks: Iterable[Check], target: Target) -> Iterator[Result]:
    """Run checks one after the other."""
    for each in checks:
        yield run_one(each, target)


def run_one(check: Check, target: Target) -> Result:
    """Run one check; whatever a broken server makes of it is a verdict."""
    target.seen.clear()
    started_s = time.monotonic()
    verdict, reason = _judge(check, target)
    return Result(check, verdict, reason, tuple(target.seen), time.monotonic() - started_s)


def _judge(check: Check, target: Target) -> tuple[Verdict, str]:
    try:
        if check.needs_grpc and target.grpc is None:
            raise Skip("no gRPC address is given: --grpc HOST:PORT")
        check.run(target)
    except Skip as skip:
        return Verdict.SKIP, str(skip)
    except Failure as failure:
        return Verdict.FAIL, str(failure)
    except grpc.RpcError as error:
        return Verdict.FAIL, f"got {error.code().name} {error.details()!r}; expected OK"
    except Exception as error:  # noqa: BLE001 - the edge: an answer of a shape that no check foresaw
        return Verdict.FAIL, f"got an answer that cannot be read: {type(error).__name__}: {error}"
    return Verdict.PASS, ""
