"""The report of an open run: one self-contained page, the figures as CSV and JSON, and every request."""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from loadtest.plots import draw_frontier, draw_latency, draw_tail, draw_timeline
from loadtest.summary import Interval, Row, Run, Thresholds
from loadtest.target import Curve
from loadtest.usage_errors import UsageError

PAGE, FIGURES, SUMMARY, REQUESTS = "report.html", "report.json", "summary.csv", "requests.csv"
TEMPLATE = Path(__file__).with_name("page.html")
LAG_WARNING_MS = 5.0
"""Above this the generator, and not only the server, shaped the latencies."""
COLUMNS = (
    "cap", "requests", "answered", "shed", "expired", "p50 ms", "p95 ms", "p99 ms", "in time", "goodput/s",
    "tape", "MFLOPs", "executed", "accuracy", "agreement",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report says."""

    title: str
    subtitle: str
    slo_ms: float
    curve: Curve
    thresholds: Thresholds
    settings: Mapping[str, Any]
    rows: Sequence[Row]
    runs: Sequence[Run]

    @property
    def misses(self) -> list[str]:
        return self.thresholds.misses(self.rows)

    def write(self, folder: Path) -> Path:
        """Write all files; return the page's path.

        Raises: UsageError if the folder cannot be written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / FIGURES).write_text(json.dumps(_finite(self._document()), indent=1) + "\n", encoding="utf-8")
            _write_csv(folder / SUMMARY, [row.flat() for row in self.rows])
            _write_csv(folder / REQUESTS, [each for run in self.runs for each in _requests(run)])
            (folder / PAGE).write_text(self._page(), encoding="utf-8")
        except OSError as error:
            raise UsageError("report", error, "a folder that can be written") from error
        return folder / PAGE

    def table(self) -> str:
        """Return the rows as text, columns aligned."""
        lines = [COLUMNS, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = ("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(aligned)

    def _document(self) -> dict[str, Any]:
        return {
            "settings": dict(self.settings),
            "quality": {"curve": self.curve.data, "num_samples": self.curve.num_samples},
            "rows": [asdict(row) for row in self.rows],
            "thresholds": asdict(self.thresholds),
            "misses": self.misses,
        }

    def _page(self) -> str:
        return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
            title=escape(self.title),
            subtitle=escape(self.subtitle),
            verdict=self._verdict(),
            head="".join(f'<th scope="col">{escape(name)}</th>' for name in COLUMNS),
            body="\n".join(self._table_row(row) for row in self.rows),
            figures="\n".join(self._figures()),
            quality=escape(self._quality()),
            generator=escape(self._generator()),
            settings="".join(
                f"<dt>{escape(name)}</dt><dd>{escape(str(each))}</dd>" for name, each in self.settings.items()
            ),
        )

    def _verdict(self) -> str:
        if self.thresholds == Thresholds():
            return ""
        if not self.misses:
            return '<div class="verdict">Every threshold was kept.</div>'
        items = "".join(f"<li>{escape(line)}</li>" for line in self.misses)
        return f'<div class="verdict missed">Thresholds missed:<ul>{items}</ul></div>'

    def _table_row(self, row: Row) -> str:
        is_missed = bool(self.thresholds.misses([row]))
        first, *others = _cells(row)
        mark = ' class="missed"' if is_missed else ""
        cells = f"<td{mark}>{escape(first)}</td>" + "".join(f"<td>{escape(cell)}</td>" for cell in others)
        return f"<tr>{cells}</tr>"

    def _figures(self) -> list[str]:
        text = f"accuracy, {self.curve.data.split(',')[0]}"
        return [
            _figure(
                "What quality costs",
                "By cap, in work and in time; whiskers are 95 % intervals.",
                draw_frontier(self.rows, curve_label=text),
            ),
            _figure("Latency", "Of what was answered.", draw_latency(self.rows, self.slo_ms)),
            _figure("The tail", "Of all requests: what was refused came never.", draw_tail(self.runs, self.slo_ms)),
            _figure("Over time", "Offered load, and the slowest 5 %.", draw_timeline(self.runs, self.slo_ms)),
        ]

    def _quality(self) -> str:
        return (
            "Quality is given twice. Accuracy is the model's published quality curve "
            f"({self.curve.data}; {self.curve.num_samples} samples) at the cap that each receipt names: it was not "
            "measured here, because these pictures have no labels. Agreement was: the share of pictures for which the "
            "answer names the same class as full tape did when nobody else asked."
        )

    def _generator(self) -> str:
        lag_ms = max(row.lag_p99_ms for row in self.rows)
        text = f"99 of 100 requests left at most {_ms(lag_ms)} ms after they were due, which is part of their latency."
        if lag_ms <= LAG_WARNING_MS:
            return text
        return text + " That is much: the generator itself was short of CPU, so give it a core or machine of its own."


def _cells(row: Row) -> tuple[str, ...]:
    shares = row.shares
    return (
        row.cap,
        str(row.requests),
        *(f"{shares[name]:.1%}" for name in ("answered", "shed", "expired")),
        *(_ms(value) for value in (row.p50_ms, row.p95_ms, row.p99_ms)),
        f"{row.attainment:.2%}",
        f"{row.goodput:.4g}",
        f"{row.mean_tape:.2f}",
        f"{row.useful_flops / 1e6:.4g}",
        f"{row.executed_flops / 1e6:.4g}",
        _share(row.accuracy),
        _share(row.agreement),
    )


def _share(share: Interval) -> str:
    return f"{share.value:.1%} ({100 * share.low:.1f}–{100 * share.high:.1f})"


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _figure(title: str, caption: str, svg: str) -> str:
    return f"<figure><h2>{title}</h2><figcaption>{caption}</figcaption>{svg}</figure>"


def _requests(run: Run) -> list[dict[str, Any]]:
    """Return each request of a run as a row."""
    outcomes = run.outcomes
    columns = zip(outcomes.sent_s, outcomes.lag_s, outcomes.latency_s, outcomes.status, strict=True)
    return [
        {
            "max_tape": run.name,
            "due_s": f"{due_s:.6f}",
            "lag_ms": f"{lag_s * 1e3:.3f}",
            "latency_ms": f"{latency_s * 1e3:.3f}",
            "status": int(status),
            "picture": picture,
            **(asdict(answer) if answer is not None else {}),
        }
        for (due_s, lag_s, latency_s, status), answer, picture in zip(columns, run.answers, run.pictures, strict=True)
    ]


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)


def _finite(value: Any) -> Any:
    """Return a document with what JSON cannot say, infinity, as nothing."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and abs(value) == float("inf") else value
