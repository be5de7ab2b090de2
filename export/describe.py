"""The manifest of a version, and what of a run's history may stand in it."""

import hashlib
import shlex
from dataclasses import asdict
from pathlib import Path, PurePath

from adatape.config import ModelConfig
from adatape.curve import Curve
from adatape.flops import StageFlops, stage_flops
from export.names import GRAPH, WEIGHTS, Names
from export.precision import Precision
from export.run import Run
from server.models.manifest import (
    SCHEMA_VERSION,
    BankSpec,
    Flops,
    GraphFile,
    GraphSpec,
    LatencyTable,
    Manifest,
    Preprocessing,
    QualityCurve,
    SourceRun,
    Symbols,
)


def build_manifest(
    run: Run,
    names: Names,
    root: Path,
    *,
    precision: Precision,
    max_batch_size: int,
    latency: LatencyTable,
    curve: Curve,
) -> Manifest:
    """Describe a version whose graphs lie, complete, under `root`."""
    config, tape = run.config, run.tape
    return Manifest(
        schema_version=SCHEMA_VERSION,
        family=names.family,
        version=names.version,
        source=_source(run),
        config=config.to_dict(),
        precision=precision,
        labels=list(run.info.class_names),
        preprocessing=_preprocessing(config),
        symbols=Symbols(length=config.seq_len) if config.input == "parity" else None,
        num_tokens=config.num_tokens,
        dim=config.dim,
        tape_capacity=tape.capacity,
        reads_per_step=tape.reads_per_step,
        halting_threshold=float(tape.halting_threshold or 0),
        bank=_bank(run),
        buckets=list(names.buckets),
        max_batch_size=max_batch_size,
        reader=_graph(root, names, names.reader, [GRAPH]),
        trunk=_graph(root, names, names.trunk, [GRAPH, WEIGHTS]),
        trunks=[_graph(root, names, names.static(bucket), [GRAPH, WEIGHTS]) for bucket in names.buckets],
        flops=_flops(stage_flops(config)),
        latency=latency,
        quality=_quality(curve),
    )


def _preprocessing(config: ModelConfig) -> Preprocessing | None:
    if config.input == "parity":
        return None
    return Preprocessing(height=config.image_size, width=config.image_size, resize="squash")


def without_paths(command: str) -> str:
    """Return a command line with each path outside its folder cut to its last part: no machine's folders are told."""
    return shlex.join(_cut(word) for word in shlex.split(command))


def _cut(word: str) -> str:
    option, equals, value = word.rpartition("=")
    path = PurePath(value)
    is_outside = path.is_absolute() or ".." in path.parts or value.startswith("~")
    return f"{option}{equals}{path.name}" if is_outside else word


def _source(run: Run) -> SourceRun:
    info = run.info
    return SourceRun(
        run=PurePath(info.name).name,
        git_sha=info.git_sha,
        command=without_paths(info.command),
        data=PurePath(info.data).name,
        data_digest=info.data_digest,
    )


def _graph(root: Path, names: Names, model: str, files: list[str]) -> GraphSpec:
    return GraphSpec(name=model, files=[_file(root, names.path(model, file)) for file in files])


def _file(root: Path, path: Path) -> GraphFile:
    content = (root / path).read_bytes()
    return GraphFile(path=path.as_posix(), sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))


def _bank(run: Run) -> BankSpec:
    if run.tape.bank == "learn":
        return BankSpec(kind="learn", rows=run.config.bank_size, cols=1, patch_px=0)
    if run.config.input == "parity":
        return BankSpec(kind="input", rows=1, cols=run.config.seq_len, patch_px=0)
    side = run.config.image_size // run.tape.bank_patch
    return BankSpec(kind="input", rows=side, cols=side, patch_px=run.tape.bank_patch)


def _flops(flops: StageFlops) -> Flops:
    return Flops(embed=flops.embed, bank=flops.bank, read_step=flops.read_step, trunk=list(flops.trunk))


def _quality(curve: Curve) -> QualityCurve:
    fields = {name: value for name, value in asdict(curve).items() if name != "histogram"}
    return QualityCurve.model_validate({**fields, "data": PurePath(curve.data).name})
