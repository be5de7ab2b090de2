"""The table of aims in `reports/README.md`: the figure for each aim in the newest report of each benchmark."""

import json
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- aims: begin -->", "<!-- aims: end -->"
DATE_CHARACTERS = len("2026-11-25-")


def newest(folder: Path) -> list[dict[str, Any]]:
    """Return the newest result of each benchmark, by name; a report's name follows its date."""
    by_name = {path.stem[DATE_CHARACTERS:]: path for path in sorted(folder.glob("*.json"))}
    return [{"name": name, **json.loads(path.read_text("utf-8"))} for name, path in sorted(by_name.items())]


def aims_table(folder: Path) -> str:
    """Return a line for each aim of the newest reports."""
    lines = ["| benchmark | date | figure | value | aim | |", "|---|---|---|---:|---:|---|"]
    for document in newest(folder):
        for aim in document["aims"]:
            sign, verdict = "≥" if aim["is_at_least"] else "≤", "met" if aim["is_met"] else "**missed**"
            head = f"| {document['name']} | {document['date'][:10]} | {aim['name']} "
            lines.append(f"{head}| {aim['value']:.3g} | {sign} {aim['limit']:g} | {verdict} |")
    return "\n".join(lines)


def refresh(folder: Path) -> None:
    """Write the table between its marks in the folder's README, where there is one."""
    readme = folder / "README.md"
    if readme.exists():
        before, _, rest = readme.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        readme.write_text(f"{before}{BEGIN}\n\n{aims_table(folder)}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    refresh(Path(__file__).parent / "reports")
