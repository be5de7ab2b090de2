"""`python -m benchmarks.gpu`: the graphs on a GPU, their answers beside the CPU's, with and without CUDA graphs."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.command import Options, find_manifest, parser, run
from benchmarks.inputs import load_pictures
from benchmarks.report import Aim, Report, Row
from benchmarks.repositories import half_variant
from loadtest.process import ROOT
from server.backends.base import Model
from server.backends.cuda import CudaBackend, Devices
from server.backends.cuda.devices import DeviceMissing
from server.backends.ort import OrtBackend
from server.models.manifest import Manifest
from server.records import Floats, Pixels
from server.settings import Settings

TOLERANCES = {"fp32": 1e-3, "fp16": 0.1}
"""Largest difference of a logit from the CPU's fp32, given the same reading: a GPU adds up in another order."""
MIN_SAME = 0.99
MIN_SPEED_UP = 1.1
NO_GPU = 2
BATCHES = (1, 8, 32, 64)
CHECKED_BATCHES = (1, 3, 32)


def main(arguments: Sequence[str] | None = None) -> None:
    """Check and time a family's stages. Exits with 2, having measured nothing, where there is no GPU."""
    options = parser("gpu", "correctness and timing on a GPU: fp32 and fp16, with and without CUDA graphs")
    options.add_argument("--family", default="adatape_cifar10", help="an fp32 family (default: %(default)s)")
    options.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="model repository")
    options.add_argument("--data", type=Path, help=".npz with x_test, y_test; default: crops of sample photos")
    options.add_argument("--device", type=int, default=0, help="CUDA's number of the GPU (default: %(default)s)")
    options.add_argument("--on-cpu", action="store_true", help="the same on the CPU provider: checks the command only")
    run(measure, options, arguments)


@dataclass(slots=True)
class Found:
    """What one precision gave: differences from the CPU, and seconds by (stage, bucket, batch), recorded or not."""

    precision: str
    logits_gap: float = 0.0
    same_length: list[bool] = field(default_factory=list)
    same_class: list[bool] = field(default_factory=list)
    spent_s: dict[bool, dict[tuple[str, int, int], float]] = field(default_factory=dict)

    def rows(self) -> list[Row]:
        recorded, launched = self.spent_s[True], self.spent_s[False]
        return [
            {
                "precision": self.precision,
                "stage": stage,
                "bucket": bucket,
                "batch": batch,
                "recorded ms": recorded[stage, bucket, batch] * 1000,
                "launched ms": launched[stage, bucket, batch] * 1000,
                "launched ÷ recorded": launched[stage, bucket, batch] / recorded[stage, bucket, batch],
                "images/s": batch / min(recorded[stage, bucket, batch], launched[stage, bucket, batch]),
            }
            for stage, bucket, batch in recorded
        ]

    def aims(self) -> list[Aim]:
        ratios = [row["launched ÷ recorded"] for row in self.rows() if (row["stage"], row["batch"]) == ("trunk", 1)]
        name, limit = self.precision, TOLERANCES[self.precision]
        return [
            Aim(f"{name}: largest difference of a logit", self.logits_gap, limit, is_at_least=False),
            Aim(f"{name}: share of tape lengths that are the CPU's", float(np.mean(self.same_length)), MIN_SAME),
            Aim(f"{name}: share of best classes that are the CPU's", float(np.mean(self.same_class)), MIN_SAME),
            Aim(f"{name}: CUDA graphs at batch 1, launched ÷ recorded, median", median(ratios), MIN_SPEED_UP),
        ]


def measure(options: Options) -> Report:
    """Load the family in each precision, with and without CUDA graphs; check, then time."""
    manifest = find_manifest(options.repository, options.family)
    images = load_pictures(manifest, 32 if options.quick else 256, options.data).pixels_BHWC
    cpu = OrtBackend(options.repository, num_threads=Settings(device="cpu").num_threads).load(manifest)
    found, notes = [], [f"Family {manifest.family}; {len(images)} images; {describe_gpu(options)}."]
    with variants(options.repository, manifest) as places:
        for precision, root, variant in places:
            found.append(Found(precision))
            for records in (True, False):
                model = load(options, root, variant, records=records)
                check(found[-1], model, cpu, variant, images)
                found[-1].spent_s[records] = time_all(model, variant, images, seconds=0.01 if options.quick else 0.3)
    if len(found) == 1:
        notes.append(
            "fp16 was not measured: converting needs torch, onnx and onnxscript, as in requirements/train.txt."
        )
    return to_report(manifest, found, notes)


@contextmanager
def variants(root: Path, manifest: Manifest) -> Iterator[list[tuple[str, Path, Manifest]]]:
    """Give the family as it is, and in half precision where that can be made."""
    places = [(manifest.precision, root, manifest)]
    if manifest.precision not in TOLERANCES:
        raise SystemExit(f"family; got precision {manifest.precision}; expected one of {', '.join(TOLERANCES)}")
    with TemporaryDirectory() as folder:
        half = half_variant(root, manifest, Path(folder)) if manifest.precision == "fp32" else None
        yield places if half is None else [*places, ("fp16", Path(folder), half)]


def load(options: Options, root: Path, manifest: Manifest, *, records: bool) -> Model:
    """Load a family onto the GPU.

    Raises: SystemExit with status 2 if there is none.
    """
    try:
        devices = Devices([0], "cpu") if options.on_cpu else Devices([options.device])
        return CudaBackend(root, devices, num_threads=1, records=records).load(manifest)
    except DeviceMissing as error:
        print(f"{error}: nothing was measured. --on-cpu checks the command without a GPU.", file=sys.stderr)
        sys.exit(NO_GPU)


def check(found: Found, model: Model, cpu: Model, manifest: Manifest, images: Pixels) -> None:
    """Hold the trunk against the CPU's on the CPU's readings, then the whole path against the CPU's."""
    for batch in CHECKED_BATCHES:
        for bucket in manifest.buckets:
            reading = cpu.read(images[:batch], caps(batch, bucket))
            arguments = (reading.hidden_BSD, reading.tape_BND[:, :bucket], reading.tape_length_B1)
            gap = float(np.abs(model.run_trunk(*arguments) - cpu.run_trunk(*arguments)).max())
            found.logits_gap = max(found.logits_gap, gap)
    for image in images:
        (length, logits), (expected, expected_logits) = (answer(each, manifest, image[None]) for each in (model, cpu))
        found.same_length.append(length == expected)
        found.same_class.append(bool(logits.argmax() == expected_logits.argmax()))


def answer(model: Model, manifest: Manifest, image_BHWC: Pixels) -> tuple[int, Floats]:
    """Return tape length and logits of one image, without a cap."""
    reading = model.read(image_BHWC, caps(1, manifest.tape_capacity))
    length = int(reading.tape_length_B1[0, 0])
    tape_BTD = reading.tape_BND[:, : manifest.bucket_for(length)]
    return length, model.run_trunk(reading.hidden_BSD, tape_BTD, reading.tape_length_B1)


def time_all(model: Model, manifest: Manifest, images: Pixels, *, seconds: float) -> dict[tuple[str, int, int], float]:
    """Return the median seconds of every stage, bucket and batch size, copies to and from the device included."""
    spent_s = {}
    for batch in (each for each in BATCHES if each <= manifest.max_batch_size):
        some = np.resize(images, (batch, *images.shape[1:]))
        for stage, cap in (("embed", 0), ("read", manifest.tape_capacity)):
            limits = caps(batch, cap)
            spent_s[stage, 0, batch] = median_s(lambda some=some, limits=limits: model.read(some, limits), seconds)
        reading = model.read(some, caps(batch, manifest.tape_capacity))
        for bucket in manifest.buckets:
            length = np.minimum(reading.tape_length_B1, bucket)
            arguments = (reading.hidden_BSD, reading.tape_BND[:, :bucket], length)
            spent_s["trunk", bucket, batch] = median_s(lambda arguments=arguments: model.run_trunk(*arguments), seconds)
    return spent_s


def median_s(work: Callable[[], object], seconds: float) -> float:
    """Return the median seconds of some work, done again and again."""
    work()
    spent_s: list[float] = []
    end_s = time.perf_counter() + seconds
    while len(spent_s) < 3 or time.perf_counter() < end_s:
        start_s = time.perf_counter()
        work()
        spent_s.append(time.perf_counter() - start_s)
    return median(spent_s)


def caps(count: int, cap: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.int32]]":
    """Return one cap for each sample."""
    return np.full((count, 1), cap, np.int32)


def describe_gpu(options: Options) -> str:
    """Return the GPU's name and driver, as NVIDIA's tool has them."""
    if options.on_cpu:
        return "on the CPU provider, so no figure here says anything of a GPU"
    query = ["nvidia-smi", f"--id={options.device}", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return f"GPU {options.device}"


def to_report(manifest: Manifest, found: Sequence[Found], notes: list[str]) -> Report:
    """Return the table and the aims."""
    report = Report("gpu", f"Graphs on a GPU, {manifest.family}")
    report.rows = [row for each in found for row in each.rows()]
    report.aims = [aim for each in found for aim in each.aims()]
    report.notes = [
        *notes,
        (
            "Logits are compared with those of fp32 on the CPU, from the CPU's reading, over every bucket; tape "
            "lengths and classes from pixels on. Times are medians of single calls, copies to and from the device "
            "included."
        ),
    ]
    return report


if __name__ == "__main__":
    main()
