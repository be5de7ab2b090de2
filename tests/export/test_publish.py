"""Whole or not at all, and never over something that is there."""

from pathlib import Path

import pytest

from export.errors import ExportError
from export.names import Names
from export.publish import check_models, next_version, publish, staging
from export.triton import ModelFile

NAMES = Names("adatape_x", "1", (0, 4))
MODELS = [*NAMES.graphs, NAMES.family]


def stage_version(stage: Path, names: Names) -> None:
    for model in (*names.graphs, names.family):
        path = stage / names.path(model)
        path.parent.mkdir(parents=True)
        path.write_text(names.version)
        (stage / model / "config.pbtxt").write_text(f"signature {names.version}")


def files(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


def publish_version(repository: Path, version: str) -> None:
    names = Names(NAMES.family, version, NAMES.buckets)
    with staging(repository) as stage:
        stage_version(stage, names)
        publish(stage, repository, names)


def test_a_first_version_brings_every_model(tmp_path: Path):
    publish_version(tmp_path / "repository", "1")
    found = files(tmp_path)
    assert sorted(found) == sorted(
        f"repository/{model}/{file}" for model in MODELS for file in ("1/model.onnx", "config.pbtxt")
    )


def test_a_second_version_leaves_the_first_and_its_config(tmp_path: Path):
    repository = tmp_path / "repository"
    publish_version(repository, "1")
    before = files(repository)
    publish_version(repository, next_version(repository, NAMES.family))
    after = files(repository)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"{model}/2/model.onnx" for model in MODELS}


@pytest.mark.parametrize("position", range(len(MODELS)))
@pytest.mark.parametrize("is_first", [True, False])
def test_a_failed_move_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: int, is_first: bool):
    repository = tmp_path / "repository"
    if not is_first:
        publish_version(repository, "1")
    before = files(tmp_path)
    rename, calls = Path.rename, []

    def fail_at_position(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == position + 1:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_at_position)
    with pytest.raises(ExportError, match="No space left on device; expected a folder that can be written"):
        publish_version(repository, "1" if is_first else "2")
    assert files(tmp_path) == before
    assert repository.exists() is not is_first


def test_the_router_with_its_manifest_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    order, rename = [], Path.rename
    monkeypatch.setattr(Path, "rename", lambda self, target: (order.append(target.name), rename(self, target))[1])
    publish_version(tmp_path / "repository", "1")
    assert order[-1] == NAMES.family


def test_a_version_that_is_there_is_never_overwritten(tmp_path: Path):
    repository = tmp_path / "repository"
    publish_version(repository, "1")
    before = files(repository)
    with pytest.raises(ExportError, match="expected a number that is free"):
        publish_version(repository, "1")
    assert files(repository) == before


def test_version_numbers_pass_over_every_graph_of_the_family_and_no_other(tmp_path: Path):
    for place in ("adatape_x/2", "adatape_x_trunk_t04/7", "adatape_x_int8/9", "adatape_xy/11", "adatape_x_trunk/draft"):
        (tmp_path / place).mkdir(parents=True)
    assert next_version(tmp_path, "adatape_x") == "8"
    assert next_version(tmp_path / "missing", "adatape_x") == "1"


def test_a_repository_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ExportError, match=r"--repository; got .*file.*expected a folder that can be written"),
        staging(tmp_path / "file" / "repository"),
    ):
        raise AssertionError


def test_staging_is_gone_after_an_error(tmp_path: Path):
    def interrupted() -> None:
        with staging(tmp_path / "repository") as stage:
            (stage / "half").mkdir()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())


def test_an_edited_way_to_run_is_kept_but_not_an_edited_signature(tmp_path: Path):
    files_of = {NAMES.family: ModelFile("name and ports\n", "dynamic_batching { }\n")}
    config = tmp_path / NAMES.family / "config.pbtxt"
    check_models(tmp_path, NAMES, files_of, "cat\n")
    config.parent.mkdir()
    config.write_text("name and ports\n\ninstance_group [ { count: 8 } ]\n")
    check_models(tmp_path, NAMES, files_of, "cat\n")
    config.write_text("other ports\n")
    with pytest.raises(ExportError, match=r"adatape_x/config.pbtxt; got another signature"):
        check_models(tmp_path, NAMES, files_of, "cat\n")


def test_other_labels_need_another_family(tmp_path: Path):
    path = tmp_path / NAMES.family / "labels.txt"
    path.parent.mkdir()
    path.write_text("dog\n")
    with pytest.raises(ExportError, match=r"labels.txt; got other labels"):
        check_models(tmp_path, NAMES, {}, "cat\n")
