"""The command from end to end: what it leaves on disk, what it says, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from adatape.config import ModelConfig
from adatape.flops import stage_flops
from export import pipeline
from export.__main__ import main
from export.describe import without_paths
from export.errors import ExportError
from export.names import Names
from export.pipeline import Options, export_run
from export.precision import Graphs
from export.run import Run
from server.models.manifest import Manifest
from server.models.repository import Repository
from tests.adatape.models import make_model
from tests.export.conftest import BUCKETS, CONFIG, FAMILY, save_run, with_tape


def manifest_of(repository: Path) -> Manifest:
    return Manifest.model_validate_json((repository / FAMILY / "1" / "manifest.json").read_bytes())


def listing(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def test_the_server_takes_what_is_published(repository: Path):
    served = Repository(repository)
    assert served.families() == [FAMILY]
    assert served.broken() == {}


def test_manifest_says_what_the_run_is(run: Run, repository: Path):
    manifest = manifest_of(repository)
    assert manifest.buckets == list(BUCKETS)
    assert manifest.labels == [str(digit) for digit in range(10)]
    assert (manifest.num_tokens, manifest.dim, manifest.tape_capacity) == (4, 16, 4)
    assert (manifest.bank.rows, manifest.bank.cols, manifest.bank.patch_px) == (4, 4, 4)
    assert manifest.flops.trunk == list(stage_flops(CONFIG).trunk)
    assert [point.accuracy for point in manifest.quality.points] == [point.accuracy for point in run.curve.points]
    assert manifest.config == json.loads(json.dumps(CONFIG.to_dict()))


def test_manifest_tells_no_folders(repository: Path):
    command = "python -m adatape.train --data digits.npz --out tiny"
    assert manifest_of(repository).source.command == command


def test_latency_has_every_stage_bucket_and_batch(repository: Path):
    latency = manifest_of(repository).latency
    stages = [("embed", 0), ("read", 0), *(("trunk", bucket) for bucket in BUCKETS)]
    expected = {(*stage, batch) for stage in stages for batch in (1, 2)}
    assert {(entry.stage, entry.bucket, entry.batch) for entry in latency.entries} == expected
    assert latency.num_threads == 1


def test_the_way_is_told(told: str, names: Names):
    assert "buckets 0, 2, 4: " in told
    assert "below padding to the longest" in told
    assert all(model in told for model in names.graphs)
    assert "ms at batch" in told


def test_router_is_published_as_it_is_tested(repository: Path):
    source = Path(pipeline.__file__).with_name("router.py").read_bytes()
    assert (repository / FAMILY / "1" / "model.py").read_bytes() == source


@pytest.fixture
def ready(options: Options, graphs: Graphs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Options:
    """Options to export anew, into a repository of its own, from graphs that are already made."""
    monkeypatch.setattr(pipeline, "_graphs", lambda *_: graphs)
    return replace(options, repository=tmp_path / "model_repository", max_batch_size=1)


def test_a_second_export_is_a_second_version(ready: Options):
    assert export_run(ready) == ready.repository / FAMILY / "1"
    assert export_run(ready) == ready.repository / FAMILY / "2"
    assert Repository(ready.repository).versions(FAMILY) == ["1", "2"]
    assert Repository(ready.repository).get(FAMILY).reader.files[0].path == f"{FAMILY}_reader/2/model.onnx"


def test_a_dry_run_leaves_nothing(ready: Options):
    export_run(replace(ready, is_dry_run=True))
    assert listing(ready.repository.parent) == []


def test_graphs_that_do_not_verify_are_not_published(ready: Options, graphs: Graphs, monkeypatch: pytest.MonkeyPatch):
    broken = onnx.ModelProto()
    broken.CopyFrom(graphs[f"{FAMILY}_trunk_t04"])
    weights = max(broken.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    weights.raw_data = bytes(len(weights.raw_data))
    monkeypatch.setattr(pipeline, "_graphs", lambda *_: {**graphs, f"{FAMILY}_trunk_t04": broken})
    with pytest.raises(ExportError, match=rf"(?s)verification failed:.*{FAMILY}_trunk_t04 logits") as caught:
        export_run(ready)
    assert f"{FAMILY}_trunk_t02" not in str(caught.value)
    assert listing(ready.repository.parent) == []


def test_another_shape_needs_another_family(ready: Options):
    export_run(ready)
    before = listing(ready.repository)
    with pytest.raises(ExportError, match=r"adatape_tiny/config.pbtxt; got another signature"):
        export_run(replace(ready, max_batch_size=2))
    assert listing(ready.repository) == before


def check_refused(arguments: list[str], capsys: pytest.CaptureFixture[str], expected: str) -> None:
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("export: ")
    assert expected in said
    assert said.count("\n") == 1


def test_a_missing_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    check_refused([str(tmp_path / "none")], capsys, "run folder; got ")


def test_a_broken_checkpoint_is_one_line(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for name in ("config.json", "train.json"):
        (tmp_path / name).write_bytes((run_dir / name).read_bytes())
    check_refused([str(tmp_path)], capsys, "expected a complete checkpoint")
    (tmp_path / "weights.safetensors").write_bytes((run_dir / "weights.safetensors").read_bytes()[:100])
    check_refused([str(tmp_path)], capsys, "expected a complete checkpoint")
    (tmp_path / "config.json").write_text("{")
    check_refused([str(tmp_path)], capsys, "expected a complete checkpoint")


def test_a_missing_or_broken_curve_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_run(tmp_path / "tiny", make_model(CONFIG))
    curve = json.loads((tmp_path / "tiny/curve.json").read_text())
    for text, expected in (
        ("{}", "expected a quality curve"),
        (json.dumps({**curve, "histogram": [1, 2]}), "expected a count for each length from 0 to 4"),
    ):
        (tmp_path / "tiny/curve.json").write_text(text)
        check_refused([str(tmp_path / "tiny")], capsys, expected)
    (tmp_path / "tiny/curve.json").unlink()
    check_refused([str(tmp_path / "tiny")], capsys, "quality curve; got no curve.json")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (with_tape(layers=(1, 2)), "tape.layers; got (1, 2); expected one layer"),
        (with_tape(halting_threshold=None), "tape.halting_threshold; got null (fixed length)"),
        (replace(CONFIG, tape=None), "tape; got none"),
        (replace(CONFIG, compat=True), "compat; got true"),
    ],
    ids=["layers", "fixed", "none", "compat"],
)
def test_models_that_cannot_be_cut_in_two_are_refused(
    config: ModelConfig, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    save_run(tmp_path / "tiny", make_model(config))
    check_refused([str(tmp_path / "tiny")], capsys, expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--num-buckets", "1"], "--num-buckets; got 1; expected 2 to 5"),
        (["--num-buckets", "6"], "--num-buckets; got 6; expected 2 to 5"),
        (["--buckets", "0,3"], "--buckets; got 0,3; expected increasing from 0 to 4"),
        (["--family", "Ada Tape"], "--family; got 'Ada Tape'; expected lower-case letters"),
        (["--precision", "int8"], "--data; got none; expected the source of digits: int8 is published only with"),
        (["--precision", "int8", "--data", "nowhere.npz"], "--data; "),
        (["--precision", "fp16", "--data", "digits", "--family", "adatape_x"], "expected a name that ends in _fp16"),
    ],
    ids=["few", "many", "hand", "family", "data", "source", "suffix"],
)
def test_bad_options_are_one_line(
    arguments: list[str], expected: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    check_refused([str(run_dir), "--repository", str(tmp_path / "repository"), *arguments], capsys, expected)
    assert listing(tmp_path) == []


def test_other_data_than_the_curve_was_measured_on_is_refused(run_dir: Path, tmp_path: Path, capsys):
    arguments = [str(run_dir), "--repository", str(tmp_path / "repository"), "--precision", "int8", "--data"]
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8), np.arange(40) % 10
    np.savez(tmp_path / "other.npz", x_train=x, y_train=y)
    check_refused([*arguments, str(tmp_path / "other.npz")], capsys, "validation split of other.npz; got digest ")


@pytest.mark.parametrize("arguments", [["--buckets", "0,x"], ["--max-batch-size", "0"], ["--capped-share", "2"]])
def test_what_is_no_number_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["runs/tiny", *arguments])
    assert f"argument {arguments[0]}: invalid" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("python -m adatape.train --data /srv/x.npz", "python -m adatape.train --data x.npz"),
        ("python -m adatape.train --out runs/tiny", "python -m adatape.train --out runs/tiny"),
        ("train --data=/srv/x.npz --out ~/tiny", "train --data=x.npz --out tiny"),
        ("train --note 'two words' ../x", "train --note 'two words' x"),
    ],
)
def test_commands_lose_their_folders(told: str, kept: str):
    assert without_paths(told) == kept
