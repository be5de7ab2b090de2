"""Runs the targets one after the other against one server, and judges their results."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from loadtest.process import ROOT, Footprint, Server
from tests.fuzz import openapi, raw_http, rpc, shapes
from tests.fuzz.results import TargetResult

MAX_GROWTH_BYTES = 24 << 20
"""What the server may hold more at the end than after the first third of the cases: the allocator's own play."""
MAX_GROWTH_COUNT = 8
"""The same for descriptors and threads."""
DECODE_TIMEOUT_S = 10
DECODE_LIMIT_MB = 1024
SHARES = {
    "openapi": 0.03, "http": 0.12, "http mutations": 0.05, "grpc": 0.09, "grpc frames": 0.03,
    "image": 0.32, "body": 0.12, "tensor": 0.12, "strings": 0.08, "gzipped": 0.08,
}  # fmt: skip
"""How the cases are spread; a case on the wire costs some hundred times one of a decoder. They add up to a little
more than 1, because an operation without parameters has fewer cases than its share."""
DECODERS = ("image", "body", "tensor", "strings", "gzipped")


@dataclass(frozen=True, slots=True)
class Campaign:
    """What to run: how many cases in all, from which seed, against which server."""

    num_cases: int
    seed: int
    server: Server

    def run(self) -> Iterator[TargetResult]:
        """Run every target and give its result."""
        host, _, port = self.server.url.removeprefix("http://").rpartition(":")
        grpc_host, _, grpc_port = self.server.grpc.rpartition(":")
        http, grpc = (host, int(port)), (grpc_host, int(grpc_port))
        model = httpx.get(f"{self.server.url}/v1/models").json()["models"][0]["name"]
        yield self._openapi(model)
        yield self._given("http", raw_http.requests(_paths(self.server.url, model)), partial(raw_http.send, http))
        yield self._each("http mutations", raw_http.mutations(model), partial(raw_http.send, http))
        with rpc.Caller(f"{grpc[0]}:{grpc[1]}") as caller:
            yield self._given("grpc", rpc.calls(model), lambda case, result: caller.send(*case, result))
        yield self._given("grpc frames", rpc.frames(), partial(rpc.send_frames, grpc))
        yield from self._decoders()

    def count(self, name: str) -> int:
        """Return a target's share of the cases."""
        return max(1, round(self.num_cases * SHARES[name]))

    def _result(self, name: str) -> TargetResult:
        return TargetResult(name, self.count(name), self.server.footprint)

    def _openapi(self, model: str) -> TargetResult:
        result = self._result("openapi")
        operations = openapi.operations(self.server.url)
        send = openapi.sender(self.server.url, model, result)
        for _, cases in operations:
            _run(cases, send, max(1, round(result.num_cases / len(operations))), self.seed)
        return result

    def _given(
        self, name: str, cases: st.SearchStrategy[Any], send: Callable[[Any, TargetResult], None]
    ) -> TargetResult:
        result = self._result(name)
        _run(cases, lambda case: send(case, result), result.num_cases, self.seed)
        return result

    def _each(self, name: str, cases: Iterable[bytes], send: Callable[[bytes, TargetResult], None]) -> TargetResult:
        result = self._result(name)
        for case in islice(cases, result.num_cases):
            send(case, result)
        return result

    def _decoders(self) -> Iterator[TargetResult]:
        with tempfile.TemporaryDirectory() as folder:
            for name in DECODERS:
                yield decode(name, self.count(name), self.seed, Path(folder))


def decode(name: str, num_cases: int, seed: int, folder: Path) -> TargetResult:
    """Run atheris over one decoder."""
    options = [f"-runs={num_cases}", f"-seed={seed}", f"-timeout={DECODE_TIMEOUT_S}"]
    options += [f"-rss_limit_mb={DECODE_LIMIT_MB}", "-max_len=8192", "-print_final_stats=1", "-verbosity=0"]
    options.append(f"-artifact_prefix={folder}/")
    command = [sys.executable, "-m", "tests.fuzz.decoders", name, str(folder / name), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    result = TargetResult(name, num_cases)
    found = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    result.outcomes["decoded or refused"] = int(found.group(1)) if found else 0
    if done.returncode != 0 or not found:
        result.add("crash", f"status {done.returncode}: {done.stdout[-600:]}{done.stderr[-1200:]}")
    return result


def _run(cases: st.SearchStrategy[Any], send: Callable[[Any], None], count: int, number: int) -> None:
    """Let Hypothesis draw so many cases and send each; faults are counted in the result, so nothing is shrunk."""

    @seed(number)
    @settings(
        max_examples=count, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(cases)
    def each(case: Any) -> None:
        send(case)

    each()


def _paths(url: str, model: str) -> list[str]:
    described = httpx.get(f"{url}/openapi.json").json()["paths"]
    return [path.replace("{model}", model) for path in (*described, *shapes.OIP_PATHS, "/docs", "/openapi.json", "/x")]


def verdict(campaign: Campaign, results: list[TargetResult]) -> tuple[bool, list[str]]:
    """Judge all results and the server; return whether it passed, and the lines that say why."""
    reasons = [f"{result.name}: {fault}" for result in results for fault in result.faults]
    num_done = sum(result.num_done for result in results)
    if num_done < campaign.num_cases:
        reasons.append(f"cases; got {num_done}; expected {campaign.num_cases}")
    reasons += [f"log: {line.strip()}" for line in _complaints(campaign.server.log)][:5]
    footprints = [look for result in results for look in result.footprints]
    reasons += growth(footprints)
    if not campaign.server.is_running:
        reasons.append(f"the server ended with status {campaign.server.process.returncode}")
    first, last = footprints[len(footprints) // 3], footprints[-1]
    figures = (
        f"{num_done} cases, {sum(result.num_faults for result in results)} faults; server memory "
        f"{first.resident_bytes / 1e6:.1f} -> {last.resident_bytes / 1e6:.1f} MB, descriptors {first.num_descriptors} "
        f"-> {last.num_descriptors}, threads {first.num_threads} -> {last.num_threads}"
    )
    return not reasons, [*reasons, f"fuzz: {'FAIL' if reasons else 'PASS'}: {figures}"]


def growth(footprints: list[Footprint]) -> list[str]:
    """Return what grew between the first third of the cases, when the server is warm, and the end."""
    first, last = footprints[len(footprints) // 3], footprints[-1]
    reasons = []
    if last.resident_bytes - first.resident_bytes > MAX_GROWTH_BYTES:
        reasons.append(f"memory; got {last.resident_bytes} bytes after {first.resident_bytes}; expected no growth")
    for name in ("num_descriptors", "num_threads"):
        if getattr(last, name) - getattr(first, name) > MAX_GROWTH_COUNT:
            reasons.append(f"{name}; got {getattr(last, name)} after {getattr(first, name)}; expected no growth")
    return reasons


def _complaints(log: str) -> list[str]:
    return [line for line in log.splitlines() if re.search(r"Traceback|unexpected_failure|execution_failed", line)]
