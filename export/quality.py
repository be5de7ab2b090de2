"""The quality curve of the graphs themselves, measured through onnxruntime.

Shape legend: P caps, B batch, N samples.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adatape.curve import Curve, SplitId, build_curve
from adatape.data import Dataset, Split, open_source
from adatape.flops import stage_flops
from export.errors import ExportError
from export.run import Run
from export.runtime import Runtime

BATCH_SIZE = 64


def open_data(run: Run, source: str) -> Dataset:
    """Load the data that the run's curve was measured on.

    Raises: ExportError if it is other data.
    """
    share = float(run.info.recipe.get("validation_share", 0.1))
    try:
        data = open_source(source, image_size=run.config.image_size, validation_share=share)
        split = data.split(run.curve.split)
    except (ValueError, OSError) as error:
        raise ExportError(f"--data; {error}") from error
    if split.digest != run.curve.data_digest:
        expected = f"{run.curve.data_digest[:12]}, which the run's curve was measured on"
        raise ExportError.of(f"{run.curve.split} split of {data.name}", f"digest {split.digest[:12]}", expected)
    return data


def measure_quality(run: Run, runtime: Runtime, split: Split) -> Curve:
    """Return the curve of the exported graphs at the caps of the run's own curve."""
    caps = [point.cap for point in run.curve.points]
    starts = range(0, len(split), BATCH_SIZE)
    batches = [_judge(runtime, split.x[at : at + BATCH_SIZE], split.y[at : at + BATCH_SIZE], caps) for at in starts]
    correct_PN = np.concatenate([correct_PB for correct_PB, _ in batches], axis=1)
    wanted_N = np.concatenate([wanted_B for _, wanted_B in batches])
    samples = SplitId(run.curve.data, run.curve.split, split.digest)
    return build_curve(samples, caps, correct_PN, wanted_N, stage_flops(run.config))


def _judge(
    runtime: Runtime, image_BHWC: NDArray[np.uint8], label_B: NDArray[np.int64], caps: Sequence[int]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Read once; every cap truncates that tape."""
    full = runtime.read(image_BHWC, runtime.names.buckets[-1])
    correct: list[NDArray[Any]] = []
    for cap in caps:
        capped = {**full, "tape_length": np.minimum(full["tape_length_wanted"], cap).astype(np.int32)}
        correct.append(runtime.finish(capped).argmax(1) == label_B)
    return np.stack(correct), full["tape_length_wanted"][:, 0].astype(np.int64)


def curve_table(curve: Curve, reference: Curve) -> str:
    """Return the curve beside that of the fp32 model as text."""
    lines = [
        f"  cap {point.cap:3d}  accuracy {point.accuracy:.2%} ({point.accuracy_low:.2%} to {point.accuracy_high:.2%}), "
        f"fp32 {other.accuracy:.2%}"
        for point, other in zip(curve.points, reference.points, strict=True)
    ]
    return "\n".join([f"quality of the graphs on {curve.data} {curve.split}, {curve.num_samples} samples", *lines])
