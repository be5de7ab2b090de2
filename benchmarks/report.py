"""The report of a command: a table on the screen, and a dated file as Markdown and JSON."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.summary import refresh

FOLDER = Path(__file__).parent / "reports"
PACKAGES = ("onnxruntime", "numpy", "uvicorn", "uvloop", "httptools", "orjson", "pillow")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure and what it should be: at least, or at most, `limit`."""

    name: str
    value: float
    limit: float
    is_at_least: bool = True

    @property
    def is_met(self) -> bool:
        return self.value >= self.limit if self.is_at_least else self.value <= self.limit

    def line(self) -> str:
        sign = "≥" if self.is_at_least else "≤"
        return f"{self.name}: {self.value:.4g} (aim {sign} {self.limit:g}: {'met' if self.is_met else 'MISSED'})"


@dataclass(slots=True)
class Report:
    """Everything one run of a command has to say; `notes` are paragraphs on method and on what limits the figure."""

    name: str
    title: str
    rows: list[Row] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def is_met(self) -> bool:
        return all(aim.is_met for aim in self.aims)

    def to_json(self, context: Row) -> Row:
        aims = [{**asdict(aim), "is_met": aim.is_met} for aim in self.aims]
        return {
            "benchmark": self.name,
            "title": self.title,
            **context,
            "rows": self.rows,
            "aims": aims,
            "notes": self.notes,
            "details": self.details,
        }

    def to_markdown(self, context: Row) -> str:
        facts = "\n".join(f"- {name}: {_plain(value)}" for name, value in context.items())
        notes = "\n\n".join(self.notes)
        aims = "\n".join(f"- {aim.line()}" for aim in self.aims)
        return f"# {self.title}\n\n{facts}\n\n{markdown_table(self.rows)}\n\n{notes}\n\n## Aims\n\n{aims}\n"


def describe_machine() -> str:
    """Return the CPU's name and the number of cores, and nothing that tells one machine from another."""
    model = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.split(":", 1)[1] for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].strip() if names else model
    return f"{model}, {os.cpu_count()} cores"


def describe_versions() -> str:
    """Return the versions of Python and of the packages that decide the figures."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def git_sha(run: Callable[..., Any] = subprocess.run) -> str:
    """Return the commit that was measured; `-dirty` if tracked files differ from it."""
    sha = run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    changed = run(["git", "status", "--porcelain", "-uno"], capture_output=True, text=True, check=False).stdout.strip()
    return (sha or "unknown") + ("-dirty" if changed else "")


def context_of(command: Sequence[str], now: datetime) -> Row:
    """Return what a reader needs to judge or repeat a run."""
    return {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "hardware": describe_machine(),
        "versions": describe_versions(),
        "git": git_sha(),
        "command": " ".join(hide_paths(command)),
    }


def hide_paths(command: Sequence[str]) -> list[str]:
    """Keep only the names of files: reports say what was run, not where."""
    return [Path(word).name if Path(word).is_absolute() else word for word in command]


def finish(report: Report, *, json_path: Path | None, is_kept: bool, folder: Path = FOLDER) -> int:
    """Print the table and the figures, write the reports, and return the exit status: 1 where an aim is missed."""
    now = datetime.now(UTC)
    context = context_of(["python", "-m", f"benchmarks.{report.name}", *sys.argv[1:]], now)
    document = json.dumps(report.to_json(context), indent=1, ensure_ascii=False) + "\n"
    if json_path is not None:
        json_path.write_text(document, encoding="utf-8")
    if is_kept:
        folder.mkdir(exist_ok=True)
        stem = folder / f"{now:%Y-%m-%d}-{report.name}"
        stem.with_suffix(".json").write_text(document, encoding="utf-8")
        stem.with_suffix(".md").write_text(report.to_markdown(context), encoding="utf-8")
        refresh(folder)
    print(text_table(report.rows))
    for note in report.notes:
        print(f"\n{note}")
    print()
    for aim in report.aims:
        print(aim.line())
    return 0 if report.is_met else 1


def text_table(rows: list[Row]) -> str:
    """Return rows as aligned text; the columns are those of all rows, in the order they first appear."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_plain(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells)


def markdown_table(rows: list[Row]) -> str:
    """Return rows as a Markdown table."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([_plain(row.get(name, "")) for name in columns] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _plain(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
