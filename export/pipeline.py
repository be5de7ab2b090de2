"""One export from end to end: graphs, verification, measurements, manifest, publication."""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from adatape.curve import Curve
from adatape.data import Dataset
from adatape.flops import stage_flops
from export.buckets import check_buckets, choose_buckets, expected_flops, used_shares
from export.describe import build_manifest
from export.errors import ExportError
from export.graphs import reader_graph, trunk_graph
from export.images import Inputs, make, makers_of
from export.latency import measure_latency, table
from export.names import CONFIG, LABELS, MANIFEST, ROUTER, WEIGHTS, Names
from export.precision import TRUNK_TOLERANCE, Graphs, Precision, calibration_images, fp16_trunks, int8_trunks
from export.publish import check_models, next_version, publish, staging
from export.quality import curve_table, measure_quality, open_data
from export.run import Run, open_run
from export.runtime import Runtime
from export.triton import ModelFile, model_files
from export.verify import summary, verify
from export.weights import share_weights

FAMILY = re.compile(r"[a-z0-9][a-z0-9_]*")
ROUTER_SOURCE = Path(__file__).with_name("router.py")


@dataclass(frozen=True, slots=True)
class Options:
    """What to export, how, and where to.

    `buckets`, when given, are taken instead of the `num_buckets` best; `capped_share` is the share of requests
    expected to come with a cap, drawn evenly; `data` is the source of a lower precision's own quality curve.
    """

    run_dir: Path
    repository: Path
    family: str | None = None
    buckets: tuple[int, ...] | None = None
    num_buckets: int = 5
    capped_share: float = 0.5
    precision: Precision = "fp32"
    max_batch_size: int = 64
    data: str | None = None
    is_dry_run: bool = False


def export_run(options: Options) -> Path:
    """Export a run and return the folder of the new version, telling each step on standard output.

    Raises: ExportError; the repository is then as it was.
    """
    run = open_run(options.run_dir)
    data = _data(run, options)
    family = _family(run, options)
    names = Names(family, next_version(options.repository, family), _buckets(run, options))
    files = model_files(names, run.config, run.tape, options.max_batch_size)
    labels = "".join(f"{label}\n" for label in run.info.class_names)
    check_models(options.repository, names, files, labels)
    with staging(options.repository) as stage:
        write_graphs(stage, names, _graphs(run, names, options.precision, data))
        _describe(stage, names, run, options, data)
        _write_files(stage, names, files, labels)
        if not options.is_dry_run:
            publish(stage, options.repository, names)
    return options.repository / names.family / names.version


def _family(run: Run, options: Options) -> str:
    suffix = "" if options.precision == "fp32" else f"_{options.precision}"
    family = options.family or f"adatape_{Path(run.info.name).name}{suffix}"
    if not FAMILY.fullmatch(family):
        raise ExportError.of("--family", repr(family), "lower-case letters, digits and _")
    if not family.endswith(suffix):
        raise ExportError.of("--family", family, f"a name that ends in {suffix}")
    return family


def _data(run: Run, options: Options) -> Dataset | None:
    if options.precision == "fp32":
        return None
    if options.data is None:
        expected = f"the source of {run.curve.data}: {options.precision} is published only with its own quality curve"
        raise ExportError.of("--data", "none", expected)
    return open_data(run, options.data)


def _buckets(run: Run, options: Options) -> tuple[int, ...]:
    shares = used_shares(run.curve.histogram, options.capped_share)
    costs = stage_flops(run.config).trunk
    if options.buckets is not None:
        buckets = check_buckets(options.buckets, run.config.capacity)
    else:
        buckets = choose_buckets(shares, costs, options.num_buckets)
    print(f"{run.curve.data} {run.curve.split}, {options.capped_share:.0%} of requests capped")
    print(expected_flops(shares, costs, buckets))
    return buckets


def _graphs(run: Run, names: Names, precision: Precision, data: Dataset | None) -> Graphs:
    print(f"exporting {len(names.graphs)} graphs, {precision}")
    reader = {names.reader: reader_graph(run.model)}
    trunks = {names.trunk: trunk_graph(run.model)}
    trunks |= {names.static(bucket): trunk_graph(run.model, bucket) for bucket in names.buckets}
    if precision == "fp16":
        trunks = fp16_trunks(trunks)
    elif data is not None:
        with tempfile.TemporaryDirectory() as folder:
            write_graphs(Path(folder), names, reader | trunks)
            trunks = int8_trunks(trunks, names, Runtime(Path(folder), names), calibration_images(data.train.x))
    return reader | trunks


def write_graphs(root: Path, names: Names, graphs: Graphs) -> None:
    """Write every graph in its place, the trunks beside their shared weights; `graphs` stay as they are."""
    copies = {name: onnx.ModelProto() for name in names.graphs}
    for name, copy in copies.items():
        copy.CopyFrom(graphs[name])
    weights = share_weights(copies[name] for name in names.trunks)
    for name, copy in copies.items():
        path = root / names.path(name)
        path.parent.mkdir(parents=True)
        path.write_bytes(copy.SerializeToString(deterministic=True))
        if name != names.reader:
            path.with_name(WEIGHTS).write_bytes(weights)


def _describe(stage: Path, names: Names, run: Run, options: Options, data: Dataset | None) -> None:
    """Verify and measure the staged graphs, and write the manifest."""
    runtime = Runtime(stage, names)
    print(summary(verify(run.model, runtime, trunk_tolerance=TRUNK_TOLERANCE[options.precision])))
    latency = measure_latency(runtime, _timed_inputs(run, options.max_batch_size), options.max_batch_size)
    print(table(latency))
    curve = run.curve if data is None else _own_curve(run, runtime, data)
    manifest = build_manifest(
        run,
        names,
        stage,
        precision=options.precision,
        max_batch_size=options.max_batch_size,
        latency=latency,
        curve=curve,
    )
    path = stage / names.path(names.family, MANIFEST)
    path.parent.mkdir(parents=True)
    path.write_text(manifest.model_dump_json(indent=2) + "\n")


def _timed_inputs(run: Run, count: int) -> Inputs:
    return make(run.model, makers_of(run.model)[-1], np.random.default_rng(0), count)


def _own_curve(run: Run, runtime: Runtime, data: Dataset) -> Curve:
    curve = measure_quality(run, runtime, data.split(run.curve.split))
    print(curve_table(curve, run.curve))
    return curve


def _write_files(stage: Path, names: Names, files: Mapping[str, ModelFile], labels: str) -> None:
    """Write what Triton reads beside the graphs."""
    for model, file in files.items():
        (stage / model / CONFIG).write_text(file.text)
    (stage / names.family / LABELS).write_text(labels)
    (stage / names.path(names.family, ROUTER)).write_bytes(ROUTER_SOURCE.read_bytes())
