import errno
import hashlib
import json
import os

import pytest

from server.backends.fake import FAMILY, fake_manifest
from server.errors import ModelNotReady, NotFound
from server.host import files
from server.models.repository import Repository


def write_family(root, family=FAMILY, version="1", content=b"graph"):
    """Write a whole family whose graphs all live in one file; return its folder."""
    folder = root / family / version
    folder.mkdir(parents=True)
    path = f"{family}/{version}/model.onnx"
    (root / path).write_bytes(content)
    file = {"path": path, "sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    manifest = fake_manifest(family, version).model_dump(mode="json")
    for graph in (manifest["reader"], manifest["trunk"], *manifest["trunks"]):
        graph["files"] = [file]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def edit_manifest(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def point_elsewhere(path):
    def change(manifest):
        manifest["reader"]["files"][0]["path"] = path

    return change


def test_a_whole_family_is_served(tmp_path):
    write_family(tmp_path)
    repository = Repository(tmp_path)
    assert repository.families() == [FAMILY]
    assert repository.get(FAMILY).family == FAMILY
    assert repository.broken() == {}


def test_the_newest_version_is_the_highest_number(tmp_path):
    for version in ("2", "10", "9"):
        write_family(tmp_path, version=version)
    repository = Repository(tmp_path)
    assert repository.versions(FAMILY) == ["2", "9", "10"]
    assert repository.get(FAMILY).version == "10"
    assert repository.get(FAMILY, "2").version == "2"


def test_the_default_is_the_first_family(tmp_path):
    write_family(tmp_path, "adatape_b")
    write_family(tmp_path, "adatape_a")
    assert Repository(tmp_path).default() == "adatape_a"


def test_unknown_names_are_told_what_there_is(tmp_path):
    write_family(tmp_path)
    repository = Repository(tmp_path)
    with pytest.raises(NotFound, match="model; got cat; expected one of: adatape_fake"):
        repository.get("cat")
    with pytest.raises(NotFound, match="version of adatape_fake; got 7; expected one of: 1"):
        repository.get(FAMILY, "7")
    with pytest.raises(NotFound):
        repository.versions("cat")


def test_an_empty_repository_is_told_apart_from_a_missing_one(tmp_path):
    repository = Repository(tmp_path)
    assert repository.families() == []
    with pytest.raises(NotFound, match="at least one complete family"):
        repository.default()
    with pytest.raises(NotFound, match="the repository is empty"):
        repository.get("cat")
    with pytest.raises(ValueError, match="expected a folder"):
        Repository(tmp_path / "nowhere")


def break_hash(folder):
    (folder / "model.onnx").write_bytes(b"hparg")


def break_size(folder):
    (folder / "model.onnx").write_bytes(b"graph and more")


def remove_file(folder):
    (folder / "model.onnx").unlink()


def tear_manifest(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:100])


def replace_manifest_by_folder(folder):
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_hash, "sha256"),
        (break_size, "got 14 bytes; expected 5"),
        (remove_file, "no such file"),
        (tear_manifest, "manifest.json; "),
        (replace_manifest_by_folder, "expected a readable file"),
        (lambda folder: edit_manifest(folder, lambda m: m.update(surprise=1)), "surprise"),
        (lambda folder: edit_manifest(folder, lambda m: m.pop("quality")), "quality"),
        (lambda folder: edit_manifest(folder, lambda m: m.update(family="adatape_other")), "adatape_other/1"),
        (lambda folder: edit_manifest(folder, lambda m: m.update(version="2")), "expected adatape_fake/1"),
        (lambda folder: edit_manifest(folder, point_elsewhere("../outside.onnx")), "inside the model repository"),
    ],
)
def test_a_family_that_is_not_whole_is_not_visible(tmp_path, damage, reason):
    (tmp_path / "outside.onnx").write_bytes(b"graph")
    root = tmp_path / "repository"
    damage(write_family(root))
    write_family(root, "adatape_sound")
    repository = Repository(root)
    assert repository.families() == ["adatape_sound"]
    assert list(repository.broken()) == [f"{FAMILY}/1"]
    assert reason in repository.broken()[f"{FAMILY}/1"]


def test_a_file_that_the_disk_does_not_give_is_a_reason(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    write_family(tmp_path)
    monkeypatch.setattr(files, "digest", fail)
    reason = Repository(tmp_path).broken()[f"{FAMILY}/1"]
    assert reason == f"{FAMILY}/1/model.onnx; got Input/output error; expected a readable file"


def link_manifest_to_a_bad_sector(folder):
    """Reading the start of a process's memory fails as a disk does, for real."""
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to("/proc/self/mem")


def link_in_a_ring(folder):
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(folder / "model.onnx")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (link_manifest_to_a_bad_sector, "manifest.json; got Input/output error; expected a readable file"),
        (link_in_a_ring, "expected a readable file"),
    ],
)
def test_a_version_that_cannot_be_read_leaves_the_others(tmp_path, damage, reason):
    write_family(tmp_path, version="1")
    damage(write_family(tmp_path, version="2"))
    (tmp_path / FAMILY / "labels.json").symlink_to("/proc/self/mem")
    repository = Repository(tmp_path)
    assert repository.versions(FAMILY) == ["1"]
    assert reason in repository.broken()[f"{FAMILY}/2"]
    with pytest.raises(ModelNotReady, match="labels of adatape_fake; got Input/output error"):
        repository.labels(FAMILY)


@pytest.mark.parametrize("call", ["is_dir", "resolve", "glob"])
def test_a_folder_that_the_disk_does_not_give_changes_nothing(tmp_path, monkeypatch, call):
    write_family(tmp_path)
    repository = Repository(tmp_path)

    def fail(*_):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(type(tmp_path), call, fail)
    if call == "resolve":
        repository.scan()
        assert "got Permission denied; expected a readable file" in repository.broken()[f"{FAMILY}/1"]
    else:
        with pytest.raises(ValueError, match="model repository; got Permission denied"):
            repository.scan()
        assert repository.families() == [FAMILY]


def test_a_link_out_of_the_repository_is_refused(tmp_path):
    root = tmp_path / "repository"
    folder = write_family(root)
    (folder / "model.onnx").rename(tmp_path / "outside.onnx")
    (folder / "model.onnx").symlink_to(tmp_path / "outside.onnx")
    assert "inside the model repository" in Repository(root).broken()[f"{FAMILY}/1"]


def test_a_broken_version_leaves_the_sound_one(tmp_path):
    write_family(tmp_path, version="1")
    break_hash(write_family(tmp_path, version="2"))
    repository = Repository(tmp_path)
    assert repository.get(FAMILY).version == "1"
    assert list(repository.broken()) == [f"{FAMILY}/2"]


def test_scan_sees_a_repair(tmp_path):
    folder = write_family(tmp_path)
    break_hash(folder)
    repository = Repository(tmp_path)
    (folder / "model.onnx").write_bytes(b"graph")
    repository.scan()
    assert (repository.families(), repository.broken()) == ([FAMILY], {})


def test_builtin_families_need_no_disk():
    repository = Repository(None, builtin=[fake_manifest()])
    assert repository.default() == FAMILY
