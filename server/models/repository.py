"""The model repository on disk: which families are complete, and why the others are not served.

    <root>/<family>/<version>/manifest.json

Everything else that a version needs is named, with its size and hash, in its manifest.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.errors import ModelNotReady, NotFound
from server.host import files
from server.models.integrity import Hashes, VersionReader, first_error
from server.models.manifest import Manifest

VERDICT = "verdict.json"


class Labels(BaseModel):
    """Which versions of a family are to answer: `labels.json` in its folder. Without it the newest does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stable: str | None = None
    """The version that answers; the newest but the canary where it is left out."""
    canary: str | None = None
    canary_share: float = Field(default=0.05, ge=0, le=1)
    """Share of the requests without a version that the canary answers."""


class CanaryVerdict(BaseModel):
    """Why a canary was rolled back: `verdict.json` in its family's folder, with the labels that it answered under."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: str
    manifest_sha256: str
    labels: Labels
    reason: str

    @classmethod
    def on(cls, manifest: Manifest, labels: Labels, reason: str) -> "CanaryVerdict":
        """Return a verdict on the version of a manifest."""
        return cls(version=manifest.version, manifest_sha256=_digest(manifest), labels=labels, reason=reason)

    def holds(self, manifest: Manifest, labels: Labels) -> bool:
        """Say whether it is about exactly this version and these labels: changed labels ask for another trial."""
        return self.labels == labels and self.manifest_sha256 == _digest(manifest)


class Repository:
    """The families that are complete and hash-valid, by name and version.

    `builtin` manifests are served as they are, beside those found under `root`; a root of None means no disk at all.
    """

    def __init__(self, root: Path | None, builtin: Iterable[Manifest] = ()) -> None:
        self.root = root
        self._builtin = tuple(builtin)
        self._versions: dict[str, dict[str, Manifest]] = {}
        self._broken: dict[str, str] = {}
        self._labels: dict[str, Labels | str] = {}
        self._verdicts: dict[str, CanaryVerdict] = {}
        self._hashes: Hashes = {}
        self.scan()

    def scan(self) -> None:
        """Read the disk again: every manifest, and the hash of every file that it names and that has changed since.

        Raises: ValueError if the folder is missing or cannot be read; then everything stays as it was.
        """
        versions: dict[str, dict[str, Manifest]] = {}
        broken: dict[str, str] = {}
        reader = VersionReader(self._hashes)
        for manifest in self._builtin:
            versions.setdefault(manifest.family, {})[manifest.version] = manifest
        for path in self._find("*/*/manifest.json"):
            try:
                manifest = reader.read(path)
            except ValueError as error:
                broken[f"{path.parent.parent.name}/{path.parent.name}"] = str(error)
            else:
                versions.setdefault(manifest.family, {})[manifest.version] = manifest
        labels, verdicts = dict(self._read_labels()), dict(self._read_verdicts())
        self._hashes = reader.hashes
        self._versions, self._broken, self._labels, self._verdicts = versions, broken, labels, verdicts

    def families(self) -> list[str]:
        """Return the names of the families that can be served, sorted."""
        return sorted(self._versions)

    def versions(self, model: str) -> list[str]:
        """Return a family's versions, oldest first.

        Raises: NotFound, naming the families there are.
        """
        return sorted(self._family(model), key=int)

    def broken(self) -> dict[str, str]:
        """Return the reason for each `family/version` that is on disk but not complete."""
        return dict(self._broken)

    def labels(self, model: str) -> Labels:
        """Return a family's labels.

        Raises: ModelNotReady if its file cannot be read.
        """
        labels = self._labels.get(model, Labels())
        if isinstance(labels, str):
            raise ModelNotReady(f"labels of {model}", labels, "an object with stable, canary and canary_share")
        return labels

    def stable(self, model: str) -> Manifest:
        """Return the manifest of the version that answers: the one labelled stable, else the newest that is no canary.

        Raises: NotFound; ModelNotReady if the labels cannot be read.
        """
        labels = self.labels(model)
        others = [version for version in self.versions(model) if version != labels.canary]
        return self.get(model, labels.stable or (others[-1] if others else None))

    def verdict(self, model: str) -> CanaryVerdict | None:
        """Return the last verdict on a canary of a family that was found or kept."""
        return self._verdicts.get(model)

    def keep_verdict(self, model: str, verdict: CanaryVerdict) -> None:
        """Write a verdict beside the labels, so that it is known after a restart; blocks.

        Raises: OSError if it cannot be written.
        """
        self._verdicts[model] = verdict
        if self.root is not None:
            path = self.root / model / VERDICT
            partial = path.with_suffix(".partial")
            partial.unlink(missing_ok=True)  # whatever it is: writing to a FIFO would wait for a reader
            partial.write_text(verdict.model_dump_json(indent=2) + "\n", encoding="utf-8")
            partial.replace(path)

    def default(self) -> str:
        """Return the family for callers that name none: the first by name.

        Raises: NotFound if there is none.
        """
        if not self._versions:
            raise NotFound("model", "none in the model repository", "at least one complete family")
        return self.families()[0]

    def get(self, model: str, version: str | None = None) -> Manifest:
        """Return the manifest of a version, the newest if none is named.

        Raises: NotFound, naming the families or versions there are.
        """
        versions = self._family(model)
        if version is None:
            return versions[max(versions, key=int)]
        if version not in versions:
            raise NotFound(f"version of {model}", version, f"one of: {', '.join(self.versions(model))}")
        return versions[version]

    def _read_labels(self) -> Iterator[tuple[str, Labels | str]]:
        """Give each family's labels, or what is wrong with them."""
        for path in self._find("*/labels.json"):
            try:
                yield path.parent.name, Labels.model_validate_json(files.read(path))
            except ValidationError as error:
                yield path.parent.name, first_error(error)
            except OSError as error:
                yield path.parent.name, files.os_error_text(error)

    def _read_verdicts(self) -> Iterator[tuple[str, CanaryVerdict]]:
        """Give each family's verdict. One that cannot be read is ignored: another trial decides again."""
        for path in self._find(f"*/{VERDICT}"):
            with suppress(ValidationError, OSError):
                yield path.parent.name, CanaryVerdict.model_validate_json(files.read(path))

    def _family(self, model: str) -> dict[str, Manifest]:
        if model not in self._versions:
            raise NotFound("model", model, f"one of: {', '.join(self.families()) or '(the repository is empty)'}")
        return self._versions[model]

    def _find(self, pattern: str) -> list[Path]:
        """Return the paths that match a pattern.

        Raises: ValueError if the folder is missing or cannot be read.
        """
        if (root := self.root) is None:
            return []
        try:
            return files.run_within(files.READ_S, ("find", self.root, pattern), lambda: _glob(root, pattern))
        except OSError as error:
            raise ValueError(
                f"model repository; got {files.os_error_text(error)}; expected a folder that can be read"
            ) from error


def _glob(root: Path, pattern: str) -> list[Path]:
    if not root.is_dir():
        raise ValueError(f"model repository; got {root}; expected a folder")
    return sorted(root.glob(pattern))


def _digest(manifest: Manifest) -> str:
    return hashlib.sha256(manifest.model_dump_json().encode()).hexdigest()
