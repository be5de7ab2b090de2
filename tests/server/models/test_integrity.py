"""Files are hashed when they are new or have changed, and only then."""

import os
import shutil

import pytest

from server.backends.fake import FAMILY
from server.host import files
from server.models.repository import Repository
from tests.server.models.test_repository import break_hash, write_family


@pytest.fixture
def hashed(monkeypatch):
    """The sizes of the files hashed so far."""
    sizes, digest = [], files.digest

    def count(path, size_bytes):
        sizes.append(size_bytes)
        return digest(path, size_bytes)

    monkeypatch.setattr(files, "digest", count)
    return sizes


def test_a_scan_hashes_each_file_once_and_again_only_what_has_changed(tmp_path, hashed):
    write_family(tmp_path, version="1", content=b"one")
    repository = Repository(tmp_path)
    repository.scan()
    assert hashed == [3]
    write_family(tmp_path, version="2", content=b"three")
    repository.scan()
    assert hashed == [3, 5]
    assert repository.versions(FAMILY) == ["1", "2"]


def test_a_file_that_was_damaged_in_place_or_replaced_by_one_as_old_is_found_out(tmp_path):
    folder = write_family(tmp_path)
    repository = Repository(tmp_path)
    file = folder / "model.onnx"
    status = file.stat()
    break_hash(folder)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    repository.scan()
    assert "sha256" in repository.broken()[f"{FAMILY}/1"]
    other = tmp_path / "other"
    other.write_bytes(b"graph")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    repository.scan()
    assert repository.broken() == {}


def test_what_is_gone_is_forgotten(tmp_path, hashed):
    write_family(tmp_path, version="1")
    folder = write_family(tmp_path, version="2")
    repository = Repository(tmp_path)
    shutil.rmtree(folder)
    repository.scan()
    assert list(repository._hashes) == [tmp_path / FAMILY / "1" / "model.onnx"]
    assert len(hashed) == 2
