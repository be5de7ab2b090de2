"""Variants of a family for comparison: the same graphs with other buckets, or in half precision."""

import os
import shutil
from pathlib import Path

from server.models.manifest import GraphFile, GraphSpec, Manifest


def write_variant(root: Path, manifest: Manifest, target: Path, buckets: list[int]) -> Manifest:
    """Write a model repository with this one family, whose buckets are a subset of what it was exported with.

    The smallest possible, 0 and the tape capacity, pads every tape that is read to the maximum.
    Raises: ValueError if a bucket has no graph.
    """
    graphs = dict(zip(manifest.buckets, manifest.trunks, strict=True))
    missing = sorted(set(buckets) - set(graphs))
    if missing:
        raise ValueError(f"buckets; got {missing}; expected some of {manifest.buckets}")
    entries = [entry for entry in manifest.latency.entries if entry.bucket in buckets]
    variant = manifest.model_copy(
        update={
            "buckets": buckets,
            "trunks": [graphs[bucket] for bucket in buckets],
            "latency": manifest.latency.model_copy(update={"entries": entries}),
        }
    )
    for graph in variant.graphs():
        for file in graph.files:
            place(root / file.path, target / file.path)
    folder = target / manifest.family / manifest.version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(variant.model_dump_json(indent=1), encoding="utf-8")
    return variant


def half_variant(root: Path, manifest: Manifest, target: Path) -> Manifest | None:
    """Write the family's reader as it is and its trunks in fp16; None where what converts them is not installed."""
    try:
        import onnx

        from export.precision import fp16_trunks
    except ImportError:
        return None
    specs = {spec.name: spec for spec in [manifest.trunk, *manifest.trunks]}
    graphs = fp16_trunks({name: onnx.load(root / spec.files[0].path) for name, spec in specs.items()})
    halves = {}
    for name, graph in graphs.items():
        path = target / name / "model.onnx"
        path.parent.mkdir(parents=True)
        onnx.save(graph, path)
        file = GraphFile(path=str(path.relative_to(target)), sha256="0" * 64, size_bytes=path.stat().st_size)
        halves[name] = GraphSpec(name=name, files=[file])
    for file in manifest.reader.files:
        place(root / file.path, target / file.path)
    return manifest.model_copy(
        update={
            "precision": "fp16",
            "trunk": halves[manifest.trunk.name],
            "trunks": [halves[spec.name] for spec in manifest.trunks],
        }
    )


def place(source: Path, target: Path) -> None:
    """Link a file, or copy it where another disk makes that impossible."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
