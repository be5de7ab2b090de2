"""Onto the disk, whole or not at all: staged beside the repository, then renamed into it.

A version is visible to the server when its manifest is, and that is renamed last. Versions are never overwritten.
"""

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from export.errors import ExportError
from export.names import CONFIG, LABELS, Names
from export.triton import ModelFile


def next_version(repository: Path, family: str) -> str:
    """Return the first number above every version of the family and its graphs, however they came there."""
    pattern = re.compile(rf"{re.escape(family)}(_reader|_trunk(_t\d+)?)?")
    models = [path for path in _folders(repository) if pattern.fullmatch(path.name)]
    taken = [int(path.name) for model in models for path in _folders(model) if path.name.isdecimal()]
    return str(max(taken, default=0) + 1)


@contextlib.contextmanager
def staging(repository: Path) -> Iterator[Path]:
    """Yield a folder on the repository's own disk that is gone afterwards.

    Raises: ExportError if it cannot be made.
    """
    try:
        repository.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{repository.name}-", dir=repository.parent))
    except OSError as error:
        raise ExportError.of(
            "--repository", f"{repository}: {error.strerror}", "a folder that can be written"
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def check_models(repository: Path, names: Names, models: dict[str, ModelFile], labels: str) -> None:
    """Refuse a version that cannot stand beside the family's earlier ones, which share its config.pbtxt.

    Raises: ExportError naming the model.
    """
    for model, file in models.items():
        path = repository / model / CONFIG
        if path.is_file() and not path.read_text().startswith(file.signature):
            raise ExportError.of(
                f"{model}/{CONFIG}",
                "another signature than this run's",
                "the same shapes and batch size, or another --family",
            )
    path = repository / names.family / LABELS
    if path.is_file() and path.read_text() != labels:
        raise ExportError.of(
            f"{names.family}/{LABELS}", "other labels than this run's", "the same, or another --family"
        )


def publish(stage: Path, repository: Path, names: Names) -> None:
    """Move a staged version into the repository, the router with its manifest last; undo all if any move fails.

    Raises: ExportError if the version is there already or a folder cannot be written.
    """
    try:
        with contextlib.ExitStack() as undo:
            if not repository.exists():
                repository.mkdir()
                undo.callback(repository.rmdir)
            for model in (*names.graphs, names.family):
                made = _move(stage / model, repository / model, names.version)
                undo.callback(shutil.rmtree, made, ignore_errors=True)
            undo.pop_all()
    except OSError as error:
        got = f"{repository}: {error.strerror}"
        raise ExportError.of("--repository", got, "a folder that can be written") from error


def _move(source: Path, target: Path, version: str) -> Path:
    """Rename a model's folder, or only its version where the model is there already; return what was made."""
    if not target.exists():
        source.rename(target)
        return target
    place = target / version
    if place.exists():
        raise ExportError.of("version", place, "a number that is free: another export may have taken it")
    (source / version).rename(place)
    return place


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir()] if parent.is_dir() else []
