"""The figures of a model card, from the manifest and the test report: `python -m export.card MANIFEST TEST CARD`.

A card is written by hand but for what stands between its two markers; no figure is ever typed.
"""

import argparse
import json
import sys
from pathlib import Path

from server.models.manifest import BankSpec, CurvePoint, Manifest, QualityCurve

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def figures(manifest: Manifest, test: QualityCurve) -> str:
    """Return the generated part of a card, markers included."""
    lines = [BEGIN, "", *_facts(manifest), "", *_table(manifest, test), "", *_latency(manifest), "", END]
    return "\n".join(lines)


def with_figures(card: str, generated: str) -> str:
    """Return a card with its generated part replaced.

    Raises: ValueError if the markers are not there, once each and in order.
    """
    before, begin, rest = card.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in after:
        raise ValueError(f"card; got no single pair of markers; expected {BEGIN} and {END}")
    return before + generated + after


def read_test(path: Path) -> QualityCurve:
    """Read the curve that `adatape.evaluate --split test` wrote."""
    fields = json.loads(path.read_text(encoding="utf-8"))
    return QualityCurve.model_validate({name: fields[name] for name in QualityCurve.model_fields})


def _facts(manifest: Manifest) -> list[str]:
    source = manifest.source
    served = [file.size_bytes for graph in (manifest.reader, manifest.trunk) for file in graph.files]
    facts = {
        "family": f"`{manifest.family}` version {manifest.version}, {manifest.precision}",
        "size": f"{sum(served) / 1e6:.1f} MB (reader, and one trunk for all buckets)",
        "input": _input(manifest),
        "tape bank": _bank(manifest.bank),
        "tape": f"up to {manifest.tape_capacity} tokens, {manifest.reads_per_step} reads merged into each",
        "buckets": ", ".join(map(str, manifest.buckets)),
        "training": f"`{source.command}`",
        "code": f"git {source.git_sha[:12]}",
        "data": f"{source.data}, digest {source.data_digest[:12]}",
    }
    return ["| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())]


def _input(manifest: Manifest) -> str:
    size = manifest.preprocessing
    if size is None:
        return f"`symbols`: {manifest.input.shape[0]} of -1, 0 and 1"
    return f"{size.width}x{size.height} RGB, {size.resize}"


def _bank(bank: BankSpec) -> str:
    return f"{bank.rows}x{bank.cols} patches of {bank.patch_px} px" if bank.patch_px else f"{bank.cols} symbols"


def _table(manifest: Manifest, test: QualityCurve) -> list[str]:
    quality, by_cap = manifest.quality, {point.cap: point for point in test.points}
    curves = " | ".join(f"{curve.split} accuracy, n = {curve.num_samples}" for curve in (quality, test))
    rows = [
        f"| {point.cap} | {_accuracy(point)} | {_accuracy(by_cap[point.cap])} "
        f"| {point.mean_tape_length:.2f} | {point.mean_flops / 1e6:.1f} |"
        for point in quality.points
        if point.cap in by_cap
    ]
    head = [f"| cap | {curves} | mean tape | mean MFLOPs |", "|---:|---|---|---:|---:|"]
    note = "Intervals are 95 % Wilson; FLOPs count a multiply-add as 2, at each sample's own tape length."
    return [*head, *rows, "", note]


def _accuracy(point: CurvePoint) -> str:
    return f"{point.accuracy:.1%} ({point.accuracy_low:.1%} to {point.accuracy_high:.1%})"


def _latency(manifest: Manifest) -> list[str]:
    table = manifest.latency
    seconds = {(entry.stage, entry.bucket, entry.batch): entry.p50_s for entry in table.entries}
    batches = sorted({batch for _, _, batch in seconds})
    rows = [
        f"| {stage}{f' {bucket}' if stage == 'trunk' else ''} | "
        + " | ".join(f"{seconds[stage, bucket, batch] * 1e3:.2f}" for batch in batches)
        + " |"
        for stage, bucket in sorted({(stage, bucket) for stage, bucket, _ in seconds})
    ]
    setting = f"{table.hardware}; {table.runtime}; {table.num_threads} thread"
    head = ["| execution | " + " | ".join(map(str, batches)) + " |", "|---|" + "---:|" * len(batches)]
    return [f"Median milliseconds of one execution by batch size ({setting}):", "", *head, *rows]


def main(argv: list[str] | None = None) -> None:
    """Rewrite the generated part of a card."""
    parser = argparse.ArgumentParser(prog="python -m export.card", description="Write a model's figures into its card.")
    parser.add_argument("manifest", type=Path, help="model_repository/FAMILY/VERSION/manifest.json")
    parser.add_argument("test", type=Path, help="test.json of the run, from adatape.evaluate --split test")
    parser.add_argument("card", type=Path, help="card to write into")
    args = parser.parse_args(argv)
    try:
        manifest = Manifest.model_validate_json(args.manifest.read_bytes())
        card = with_figures(args.card.read_text(encoding="utf-8"), figures(manifest, read_test(args.test)))
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"export.card: {error}")
    args.card.write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main()
