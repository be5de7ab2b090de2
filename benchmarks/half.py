"""A family in half precision, made from its fp32 graphs."""

from pathlib import Path

from benchmarks.repositories import place
from server.models.manifest import GraphFile, GraphSpec, Manifest


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
