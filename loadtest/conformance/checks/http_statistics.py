"""The statistics extension: perf_analyzer reads every member unchecked."""

import time
from collections.abc import Iterator
from typing import Any

from loadtest.conformance.expect import Failure, expect, expect_equal
from loadtest.conformance.model import Json
from loadtest.conformance.registry import TRITON, check
from loadtest.conformance.target import Target, expect_refused

SOURCE = "Triton statistics extension"
DURATIONS = (
    *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
    *("cache_hit", "cache_miss"),
)


def entry(target: Target, path: str | None = None) -> Json:
    """Return the model's entry of a statistics call."""
    target.requires("statistics")
    response = target.http.get(path or target.model_path("stats"))
    expect_equal(response.status, 200, "status")
    document = response.json()
    expect(isinstance(document, dict) and isinstance(document.get("model_stats"), list), document, "model_stats")
    for found in document["model_stats"]:
        if found.get("name") == target.model.name:
            return dict(found)
    raise Failure(f"got {[found.get('name') for found in document['model_stats']]}; expected {target.model.name}")


def leaves(value: Any) -> Iterator[Any]:
    """Give all numbers and other scalars of a document."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner)
    else:
        yield value


@check("http.statistics.model", TRITON, SOURCE)
def model(target: Target) -> None:
    """A model's statistics have its name, and its version as a string."""
    version = entry(target).get("version")
    expect(isinstance(version, str) and version != "", f"version {version!r}", "a string")


@check("http.statistics.all", TRITON, SOURCE)
def all_models(target: Target) -> None:
    """v2/models/stats has every model, this one among them."""
    entry(target, "v2/models/stats")


@check("http.statistics.version", TRITON, SOURCE)
def by_version(target: Target) -> None:
    """Statistics can be asked by version."""
    found = entry(target, target.model_path("stats", target.model.version))
    expect_equal(found["version"], target.model.version, "version")


@check("http.statistics.members", TRITON, SOURCE)
def members(target: Target) -> None:
    """last_inference, inference_count, execution_count, inference_stats and batch_stats are all there."""
    found = entry(target)
    for name, kind in (("last_inference", int), ("inference_count", int), ("execution_count", int)):
        expect(type(found.get(name)) is kind, f"{name} {found.get(name)!r}", "an integer")
    expect(isinstance(found.get("inference_stats"), dict), found.get("inference_stats"), "an object")
    expect(isinstance(found.get("batch_stats"), list), found.get("batch_stats"), "a list")


@check("http.statistics.durations", TRITON, SOURCE)
def durations(target: Target) -> None:
    """All eight durations are there, each with an integer count and ns."""
    found = entry(target)["inference_stats"]
    for name in DURATIONS:
        duration = found.get(name)
        is_duration = isinstance(duration, dict) and all(type(duration.get(key)) is int for key in ("count", "ns"))
        expect(is_duration, f"{name} {duration!r}", '{"count": integer, "ns": integer}')


@check("http.statistics.integers", TRITON, SOURCE)
def integers(target: Target) -> None:
    """Numbers are integers of 0 or more: no floats, no nulls."""
    target.ask_binary()
    found = {key: value for key, value in entry(target).items() if key not in {"name", "version"}}
    odd = [leaf for leaf in leaves(found) if type(leaf) is not int or leaf < 0]
    expect(not odd, odd, "integers of 0 or more")


@check("http.statistics.batches", TRITON, SOURCE)
def batches(target: Target) -> None:
    """Each batch size has its executions: compute_input, compute_infer and compute_output."""
    target.ask_binary()
    found = entry(target)["batch_stats"]
    expect(bool(found), "no batch sizes", "at least one, after an inference")
    for each in found:
        parts = {"batch_size", "compute_input", "compute_infer", "compute_output"}
        expect(parts <= set(each), sorted(each), f"{sorted(parts)}")


@check("http.statistics.inference_count", TRITON, SOURCE + ": inference_count counts samples")
def inference_count(target: Target) -> None:
    """inference_count grows by the samples of a request."""
    rows = 2 if target.model.has_batches and target.model.max_batch_size != 1 else 1
    before = entry(target)["inference_count"]
    target.ask_binary(rows)
    grown = target.settled(lambda: entry(target)["inference_count"] - before, lambda grown: grown >= rows)
    expect(grown >= rows, f"growth by {grown}", f"{rows} or more")


@check("http.statistics.execution_count", TRITON, SOURCE)
def execution_count(target: Target) -> None:
    """execution_count grows with a request, and never beyond inference_count for one-stage models."""
    before = entry(target)["execution_count"]
    target.ask_binary()
    after = target.settled(lambda: entry(target)["execution_count"], lambda after: after > before)
    expect(after > before, "no growth", "growth")


@check("http.statistics.success", TRITON, SOURCE)
def success(target: Target) -> None:
    """success counts requests and their time."""
    before = entry(target)["inference_stats"]["success"]
    target.ask_binary()
    after = target.settled(
        lambda: entry(target)["inference_stats"]["success"], lambda after: after["count"] > before["count"]
    )
    expect(after["count"] > before["count"], f"count {before['count']} to {after['count']}", "growth")
    expect(after["ns"] > before["ns"], f"ns {before['ns']} to {after['ns']}", "growth")


@check("http.statistics.parts_of_success", TRITON, SOURCE)
def parts_of_success(target: Target) -> None:
    """Queue and compute times are parts of the time of success."""
    found = entry(target)["inference_stats"]
    parts = sum(found[name]["ns"] for name in ("queue", "compute_infer"))
    whole = found["success"]["ns"] + found["fail"]["ns"]
    expect(parts <= 1.05 * whole, f"queue and compute_infer {parts} ns", f"at most success, {whole} ns")


@check("http.statistics.last_inference", TRITON, SOURCE + ": milliseconds since the epoch")
def last_inference(target: Target) -> None:
    """last_inference is in milliseconds since the epoch, and was just now."""
    target.ask_binary()
    age_s = time.time() - entry(target)["last_inference"] / 1000
    expect(abs(age_s) < 3600, f"{age_s:.0f} s ago", "within the last hour")


@check("http.statistics.unknown", TRITON, SOURCE)
def unknown(target: Target) -> None:
    """Statistics of an unknown model are refused with an error."""
    target.requires("statistics")
    expect_refused(target.http.get(target.model_path("stats", name="no_such_model")))
