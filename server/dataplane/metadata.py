"""Metadata, configuration, statistics and the repository index, as documents in the protocol's words."""

from collections.abc import Iterable
from typing import Any

from server import __version__
from server.dataplane.budget_parameters import DEFAULT_PRIORITY, PRIORITIES
from server.dataplane.signature import Signature, TensorSpec
from server.engine.families import Family
from server.engine.statuses import Standing, Status
from server.metrics import Duration, Statistics
from server.settings import Settings

Json = dict[str, Any]
SERVER_NAME = "adatape-serve"
PLATFORM = "adatape"
EXTENSIONS = (
    "classification",
    "model_repository",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
)
_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
_NEVER = Duration()


def server_metadata() -> Json:
    """Return the server's name, version and extensions: exactly those that are implemented."""
    return {"name": SERVER_NAME, "version": __version__, "extensions": list(EXTENSIONS)}


def model_metadata(family: Family, signature: Signature) -> Json:
    """Return a model's inputs and outputs; shapes include the batch."""
    return {
        "name": family.manifest.family,
        "versions": [family.manifest.version],
        "platform": PLATFORM,
        "inputs": [_shape(spec) for spec in signature.inputs],
        "outputs": [_shape(spec) for spec in signature.outputs],
    }


def model_config(family: Family, signature: Signature, settings: Settings) -> Json:
    """Return a model's configuration; `dims` leave out the batch, and `parameters` name the real device."""
    kind = "KIND_GPU" if family.model.device.startswith("CUDA") else "KIND_CPU"
    return {
        "name": family.manifest.family,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": signature.max_batch_size,
        "input": [{**_dims(spec), "optional": True} for spec in signature.inputs],
        "output": [_dims(spec) for spec in signature.outputs],
        "instance_group": [{"name": family.manifest.family, "kind": kind, "count": settings.max_executions}],
        "dynamic_batching": {
            "max_queue_delay_microseconds": round(settings.max_queue_delay_s * 1e6),
            "priority_levels": len(PRIORITIES),
            "default_priority_level": DEFAULT_PRIORITY,
        },
        "model_transaction_policy": {"decoupled": False},
        "parameters": {
            "device": {"string_value": family.model.device},
            "precision": {"string_value": family.manifest.precision},
            "tape_capacity": {"string_value": str(family.manifest.tape_capacity)},
        },
    }


def model_statistics(family: Family) -> Json:
    """Return what a model has done since it was loaded; whole numbers only, every duration always there."""
    statistics: Statistics = family.meter.statistics
    return {
        "name": family.manifest.family,
        "version": family.manifest.version,
        "last_inference": statistics.last_inference_ms,
        "inference_count": statistics.inference_count,
        "execution_count": statistics.execution_count,
        "inference_stats": {name: _duration(getattr(statistics, name)) for name in _DURATIONS}
        | dict.fromkeys(("cache_hit", "cache_miss"), _duration(_NEVER)),
        "response_stats": {},
        "batch_stats": [_batch(size, duration) for size, duration in sorted(statistics.batches.items())],
        "memory_usage": [],
    }


def repository_index(statuses: Iterable[Status], *, only_ready: bool) -> list[Json]:
    """Return the state of each version of each model."""
    return [
        {"name": status.family, "version": status.version, "state": status.standing.value, "reason": status.reason}
        for status in statuses
        if status.standing is Standing.READY or not only_ready
    ]


def _shape(spec: TensorSpec) -> Json:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.dims]}


def _dims(spec: TensorSpec) -> Json:
    data_type = "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"
    labels = {"label_filename": "labels.txt"} if spec.has_labels else {}
    return {"name": spec.name, "data_type": data_type, "dims": list(spec.dims), **labels}


def _duration(duration: Duration) -> Json:
    return {"count": duration.count, "ns": duration.ns}


def _batch(size: int, duration: Duration) -> Json:
    """Return the executions of one batch size; gathering the rows is part of `compute_infer`."""
    nothing = {"count": duration.count, "ns": 0}
    return {
        "batch_size": size,
        "compute_input": nothing,
        "compute_infer": _duration(duration),
        "compute_output": nothing,
    }
