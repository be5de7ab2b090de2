"""Whether a version on disk is complete: its manifest, and the size and hash of every file that it names."""

import os
from pathlib import Path

from pydantic import ValidationError

from server.host import files
from server.models.manifest import GraphFile, Manifest

FileIdentity = tuple[int, int, int, int, int]
"""Values that change when a file is written or replaced: device, inode, size, and both times in nanoseconds."""
Hashes = dict[Path, tuple[FileIdentity, str]]


class VersionReader:
    """Reads versions from disk, once each. It does not hash a file again that is as it was when `known` was filled."""

    def __init__(self, known: Hashes | None = None) -> None:
        self.hashes: Hashes = {}
        self._known = known or {}

    def read(self, path: Path) -> Manifest:
        """Read one manifest and check all it names.

        Raises: ValueError with the first thing that is wrong.
        """
        try:
            manifest = Manifest.model_validate_json(files.read(path))
        except ValidationError as error:
            raise ValueError(first_error(error)) from error
        except OSError as error:
            raise ValueError(f"manifest.json; got {files.os_error_text(error)}; expected a readable file") from error
        _check_place(manifest, path)
        for file in {file.path: file for graph in manifest.graphs() for file in graph.files}.values():
            self._check_file(path.parents[2], file)
        return manifest

    def _check_file(self, root: Path, file: GraphFile) -> None:
        try:
            path = _find(root, file)
            status = files.check_regular(path)
            if status.st_size != file.size_bytes:
                raise ValueError(f"{file.path}; got {status.st_size} bytes; expected {file.size_bytes}")
            digest = self._hash(path, status)
        except FileNotFoundError:
            raise ValueError(f"{file.path}; got no such file; expected {file.size_bytes} bytes") from None
        except (OSError, RuntimeError) as error:  # a ring of links is a RuntimeError of pathlib's
            raise ValueError(f"{file.path}; got {files.os_error_text(error)}; expected a readable file") from error
        if digest != file.sha256:
            raise ValueError(f"{file.path}; got sha256 {digest}; expected {file.sha256}")

    def _hash(self, path: Path, status: os.stat_result) -> str:
        identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        before, digest = self.hashes.get(path) or self._known.get(path) or (None, "")
        if before != identity:
            digest = files.digest(path, status.st_size)
        self.hashes[path] = (identity, digest)
        return digest


def _find(root: Path, file: GraphFile) -> Path:
    """Return where a file really lies.

    Raises: ValueError outside the repository; OSError.
    """
    place = root / file.path
    path, top = files.run_within(files.READ_S, ("resolve", place), lambda: (place.resolve(), root.resolve()))
    if not path.is_relative_to(top):
        raise ValueError(f"file path; got {file.path}; expected a path inside the model repository")
    return path


def first_error(error: ValidationError) -> str:
    """Return the first thing that is wrong with a document, and where."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "manifest.json"
    return f"{where}; {first['msg']}"


def _check_place(manifest: Manifest, path: Path) -> None:
    place = (path.parent.parent.name, path.parent.name)
    if (manifest.family, manifest.version) != place:
        raise ValueError(f"manifest.json; got {manifest.family}/{manifest.version}; expected {'/'.join(place)}")
