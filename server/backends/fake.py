"""A backend whose answers are easy to predict, so that the server can run and be tested without weights.

An 8x8 image has ten classes: class c scores the image's c-th byte / 255. It wants a tape of (mean pixel + 1) // 16
tokens, but at least 1. Each tape token adds the scores once more, so the logits are scores * (1 + tape length).
"""

import numpy as np

from server.backends.base import Hidden, Model, ReaderOutput
from server.errors import BackendFailed
from server.models.manifest import (
    SCHEMA_VERSION,
    BankSpec,
    CurvePoint,
    Flops,
    GraphFile,
    GraphSpec,
    Latency,
    LatencyTable,
    Manifest,
    Preprocessing,
    QualityCurve,
    SourceRun,
)
from server.records import Floats, Inputs, Ints

FAMILY = "adatape_fake"
SIDE_PX = 8
NUM_CLASSES = 10
TAPE_CAPACITY = 16
READS_PER_STEP = 2
BUCKETS = (0, 4, 8, 16)
MAX_BATCH_SIZE = 16


class FakeModel:
    """Both stages in numpy."""

    device = "FakeExecutionProvider"
    is_ready = True

    def read(self, inputs_BX: Inputs, max_tape_B1: Ints) -> ReaderOutput:
        flat_BP = inputs_BX.reshape(len(inputs_BX), -1)
        is_read_B1 = max_tape_B1 > 0
        mean_B1 = flat_BP.mean(axis=1, keepdims=True).astype(np.int32)
        wanted_B1 = np.maximum(1, (mean_B1 + 1) // TAPE_CAPACITY) * is_read_B1
        length_B1 = np.minimum(wanted_B1, max_tape_B1)
        hidden_BSD = flat_BP[:, None, :NUM_CLASSES].astype(np.float32) / np.float32(255)
        used_BN = np.arange(TAPE_CAPACITY) < length_B1
        used_BNK = used_BN[:, :, None].repeat(READS_PER_STEP, axis=2)
        picks_NK = np.arange(TAPE_CAPACITY * READS_PER_STEP).reshape(TAPE_CAPACITY, READS_PER_STEP)
        return ReaderOutput(
            hidden_BSD=hidden_BSD,
            tape_BND=hidden_BSD * used_BN[:, :, None],
            tape_length_B1=length_B1.astype(np.int32),
            tape_length_wanted_B1=wanted_B1.astype(np.int32),
            picks_BNK=(picks_NK * used_BNK).astype(np.int32),
            pick_weights_BNK=used_BNK.astype(np.float32) / np.float32(READS_PER_STEP),
        )

    def run_trunk(self, hidden_BSD: Hidden, tape_BTD: Hidden, tape_length_B1: Ints) -> Floats:
        used_BT = np.arange(tape_BTD.shape[1]) < tape_length_B1
        logits_BC: Floats = hidden_BSD[:, 0] + (tape_BTD * used_BT[:, :, None]).sum(axis=1, dtype=np.float32)
        return logits_BC


class FakeBackend:
    """Loads the one built-in family; `faults` says how it misbehaves (server/backends/faults.py)."""

    def __init__(self, faults: str = "") -> None:
        self._faults = faults
        if "block" in faults:
            from server.backends.faults import prepare_to_block

            prepare_to_block()

    def load(self, manifest: Manifest) -> Model:
        if (manifest.tape_capacity, len(manifest.labels)) != (TAPE_CAPACITY, NUM_CLASSES):
            raise BackendFailed("fake backend", manifest.family, f"the built-in {FAMILY}")
        if not self._faults:
            return FakeModel()
        from server.backends.faults import FaultPlan, FaultyModel

        return FaultyModel(FakeModel(), FaultPlan.parse(self._faults))


def fake_manifest(family: str = FAMILY, version: str = "1") -> Manifest:
    """Return the manifest of the built-in family: round numbers, coherent with each other, measured on nothing."""
    return Manifest(
        schema_version=SCHEMA_VERSION,
        family=family,
        version=version,
        source=SourceRun(run="fake", git_sha="0" * 40, command="built in", data="none", data_digest="none"),
        config={},
        precision="fp32",
        labels=[f"class_{index}" for index in range(NUM_CLASSES)],
        preprocessing=Preprocessing(height=SIDE_PX, width=SIDE_PX, resize="squash"),
        num_tokens=1,
        dim=NUM_CLASSES,
        tape_capacity=TAPE_CAPACITY,
        reads_per_step=READS_PER_STEP,
        halting_threshold=0.9,
        bank=BankSpec(kind="input", rows=8, cols=4, patch_px=2),
        buckets=list(BUCKETS),
        max_batch_size=MAX_BATCH_SIZE,
        reader=_graph(f"{family}_reader"),
        trunk=_graph(f"{family}_trunk"),
        trunks=[_graph(f"{family}_trunk_t{bucket:02}") for bucket in BUCKETS],
        flops=Flops(embed=1000, bank=500, read_step=100, trunk=[2000 + 250 * t for t in range(TAPE_CAPACITY + 1)]),
        latency=_latency(),
        quality=_quality(),
    )


def _graph(name: str) -> GraphSpec:
    return GraphSpec(name=name, files=[GraphFile(path="built-in", sha256="0" * 64, size_bytes=0)])


def _latency() -> LatencyTable:
    """Charge each execution a fixed cost and one for each row, as real graphs do."""
    batches = (1, 4, MAX_BATCH_SIZE)
    rows = {("embed", 0): 20e-6, ("read", 0): 60e-6} | {("trunk", b): (100 + 10 * b) * 1e-6 for b in BUCKETS}
    entries = [
        Latency.model_validate({"stage": stage, "bucket": bucket, "batch": batch, "p50_s": 100e-6 + row_s * batch})
        for (stage, bucket), row_s in rows.items()
        for batch in batches
    ]
    return LatencyTable(hardware="none", runtime="numpy", num_threads=1, entries=entries)


def _quality() -> QualityCurve:
    points = [
        CurvePoint(
            cap=cap,
            accuracy=0.5 + cap / 40,
            accuracy_low=0.49 + cap / 40,
            accuracy_high=0.51 + cap / 40,
            mean_tape_length=cap * 0.75,
            mean_tape_length_wanted=12.0 if cap else 0.0,
            mean_flops=3000.0 + 500 * min(cap, 1) + 350 * cap * 0.75,
        )
        for cap in (0, 1, 2, 4, 8, 12, 16)
    ]
    return QualityCurve(data="none", split="none", data_digest="none", num_samples=1000, points=points)
