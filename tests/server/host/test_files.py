"""Files of a running server: whatever stands at a path, reading ends soon, with the content or a reason."""

import hashlib
import json
import os
import socket
import threading
from pathlib import Path

import pytest

from server.backends.fake import FAMILY
from server.host import files
from server.models.repository import CanaryVerdict, Labels, Repository
from tests.server.models.test_repository import write_family
from tests.server.surface import make_app, serving


def make_fifo(path):
    os.mkfifo(path)


def make_link_to_fifo(path):
    os.mkfifo(path.with_suffix(".pipe"))
    path.symlink_to(path.with_suffix(".pipe"))


def make_folder(path):
    path.mkdir()


def make_device(path):
    path.symlink_to("/dev/zero")


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        here = Path.cwd()
        os.chdir(path.parent)  # the name of a socket has to be short
        made.bind(path.name)
        os.chdir(here)


KINDS = {
    "a FIFO": make_fifo,
    "a FIFO ": make_link_to_fifo,
    "a folder": make_folder,
    "a device": make_device,
    "a socket": make_socket,
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_by_name(tmp_path, kind):
    path = tmp_path / "file"
    KINDS[kind](path)
    for look in (files.read, files.check_regular, lambda path: files.digest(path, 10)):
        with pytest.raises(OSError, match=f"it is {kind.strip()}, no regular file"):
            look(path)


def test_a_regular_file_is_read_whole_up_to_its_bound(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert files.read(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="it holds more than 99 bytes"):
        files.read(path, 99)
    assert files.digest(path, 100) == hashlib.sha256(b"x" * 100).hexdigest()
    with pytest.raises(FileNotFoundError):
        files.read(tmp_path / "none")


def test_a_file_that_grows_while_it_is_hashed_is_another_file_and_has_an_end(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert files.digest(path, 50) == hashlib.sha256(b"x" * 51).hexdigest()


def test_what_does_not_come_back_is_waited_for_once_and_tried_again_when_it_has():
    gone, back = threading.Event(), threading.Event()

    def hang():
        gone.wait(30)
        back.set()

    with pytest.raises(TimeoutError, match=r"no answer of the disk in 0\.01 s"):
        files.run_within(0.01, "test", hang)
    num_threads = threading.active_count()
    for _ in range(3):
        with pytest.raises(TimeoutError, match="none yet to an earlier look"):
            files.run_within(30, "test", hang)
    assert threading.active_count() == num_threads
    gone.set()
    assert back.wait(30)
    while "test" in files._stuck:
        pass
    assert files.run_within(30, "test", lambda: 1) == 1


def test_what_work_raises_is_raised_and_a_system_without_threads_is_an_error_of_the_disk(monkeypatch):
    with pytest.raises(ZeroDivisionError):
        files.run_within(30, "test", lambda: 1 / 0)

    def none_left(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    with pytest.raises(OSError, match="the system gives no more threads"):
        files.run_within(30, "test", lambda: 1)


# --- In the model repository -----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx"])
def test_what_is_no_file_is_a_version_of_no_use_and_costs_the_others_nothing(tmp_path, kind, name):
    write_family(tmp_path, version="1")
    place = write_family(tmp_path, version="2") / name
    place.unlink()
    KINDS[kind](place)
    repository = Repository(tmp_path)
    assert repository.versions(FAMILY) == ["1"]
    reason = repository.broken()[f"{FAMILY}/2"]
    is_elsewhere = "expected a path inside the model repository" in reason  # a device is
    assert is_elsewhere or f"it is {kind.strip()}, no regular file; expected a readable file" in reason


@pytest.mark.parametrize("name", ["labels.json", "verdict.json"])
def test_labels_and_verdicts_are_files_too(tmp_path, name):
    write_family(tmp_path)
    make_fifo(tmp_path / FAMILY / name)
    repository = Repository(tmp_path)
    assert repository.families() == [FAMILY]
    assert (repository._labels != {}) == (name == "labels.json")


def test_a_manifest_that_is_too_large_or_too_deep_is_a_reason(tmp_path, monkeypatch):
    folder = write_family(tmp_path)
    document = json.loads((folder / "manifest.json").read_text())
    deep = json.dumps(document).replace('"config": {}', '"config": {"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
    assert len(deep) > 200_000
    (folder / "manifest.json").write_text(deep)
    assert "Invalid JSON" in Repository(tmp_path).broken()[f"{FAMILY}/1"]
    (folder / "manifest.json").write_text(json.dumps(document) + " " * files.DOCUMENT_BYTES)
    assert "it holds more than" in Repository(tmp_path).broken()[f"{FAMILY}/1"]


def test_a_verdict_is_kept_where_a_fifo_stood(tmp_path):
    write_family(tmp_path)
    make_fifo(tmp_path / FAMILY / "verdict.partial")
    repository = Repository(tmp_path)
    verdict = CanaryVerdict.on(repository.get(FAMILY), Labels(), "worse")
    repository.keep_verdict(FAMILY, verdict)
    assert Repository(tmp_path).verdict(FAMILY) == verdict


async def test_a_manifest_that_is_a_fifo_blocks_no_load_and_no_unload(tmp_path):
    write_family(tmp_path)
    app = make_app()
    app.engine.repository.root = tmp_path
    async with serving(app) as client:
        make_fifo(write_family(tmp_path, version="9") / "labels.json")
        place = tmp_path / FAMILY / "9" / "manifest.json"
        place.unlink()
        make_fifo(place)
        for call in ("load", "unload"):
            response = await client.post(f"/v2/repository/models/{FAMILY}/{call}")
            assert response.status_code in {200, 503}, response.text
