"""A copy of one family of a model repository, to which versions can be added while a server uses it."""

import json
import shutil
from pathlib import Path


class RepositoryCopy:
    """The copy: new versions can be published in it, damaged and removed."""

    def __init__(self, source: Path, family: str, folder: Path) -> None:
        self.root, self.family = folder, family
        for part in source.glob(f"{family}*"):
            shutil.copytree(part, folder / part.name)
        self._first = json.loads((folder / family / "1" / "manifest.json").read_text(encoding="utf-8"))

    def publish(self, version: int, *, in_place: bool = False) -> Path:
        """Publish a version with the graphs of the first, all of it at once unless `in_place`; return its folder."""
        folder = self.root / self.family / str(version)
        folder.mkdir()
        partial = folder / ("manifest.json" if in_place else "manifest.partial")
        partial.write_text(json.dumps({**self._first, "version": str(version)}), encoding="utf-8")
        partial.rename(folder / "manifest.json")
        return folder

    def remove(self, version: int) -> None:
        """Remove a version."""
        shutil.rmtree(self.root / self.family / str(version))
