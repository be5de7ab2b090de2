"""Measure a run's quality curve: `python -m adatape.evaluate runs/NAME --data SOURCE`.

Each sample is read once, at full tape; a cap truncates that tape, so only the trunk runs again.
"""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from adatape.checkpoint import RunInfo, load_checkpoint, write_json
from adatape.curve import Curve, SplitId, build_curve, differences, read_curve
from adatape.data import Split, open_source
from adatape.flops import stage_flops
from adatape.model import AdaTape
from adatape.plots import plot_curve
from adatape.rounds.checkpoint import is_rounds
from adatape.rounds.report import evaluate_run, table, write
from adatape.transformer import to_inputs

BATCH_SIZE = 256


def evaluate(model: AdaTape, split: Split, caps: Sequence[int], samples: SplitId) -> Curve:
    """Return the quality curve of a model on one split, which `samples` names.

    Raises: ValueError if a cap is outside 0 to the capacity, or the model has several tape layers.
    """
    capacity, tape = model.config.capacity, model.config.tape
    if not caps or min(caps) < 0 or max(caps) > capacity:
        raise ValueError(f"caps; got {list(caps)}; expected numbers from 0 to {capacity}")
    if tape and len(tape.layers) > 1:
        raise ValueError(f"tape.layers; got {tape.layers}; expected one layer to truncate the tape of")
    starts = tqdm(range(0, len(split), BATCH_SIZE), desc="evaluate", unit="batch", disable=None)
    batches = [_judge(model, _batch(split, start), caps) for start in starts]
    correct_PN = np.concatenate([correct for correct, _ in batches], axis=1)
    wanted_N = np.concatenate([wanted for _, wanted in batches])
    return build_curve(samples, caps, correct_PN, wanted_N, stage_flops(model.config))


def _batch(split: Split, start: int) -> Split:
    return Split(split.x[start : start + BATCH_SIZE], split.y[start : start + BATCH_SIZE])


@torch.no_grad()
def _judge(model: AdaTape, batch: Split, caps: Sequence[int]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which samples are right at each cap, [P,B], and the tape lengths they want, [B]."""
    device = model.head.weight.device
    x, labels_B = torch.from_numpy(batch.x).to(device), torch.from_numpy(batch.y).to(device)
    hidden_BSD, tape_BND, wanted_B = read_full(model, to_inputs(x, model.config))
    logits = [model.trunk(hidden_BSD, tape_BND[:, :cap], wanted_B.clamp(max=cap)) for cap in caps]
    correct_PB = torch.stack([logits_BC.argmax(1) == labels_B for logits_BC in logits])
    return correct_PB.cpu().numpy(), wanted_B.cpu().numpy()


def read_full(model: AdaTape, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Embed and read without a cap; return hidden [B,S,D], tape [B,N,D] and the tape length wanted [B]."""
    hidden_BSD = model.embed(inputs)
    if model.config.tape is None:
        return hidden_BSD, hidden_BSD[:, :0], torch.zeros(len(inputs), dtype=torch.long, device=inputs.device)
    read = model.read(hidden_BSD, None, model.build_bank(inputs), 0, None)
    return hidden_BSD, read.tape_BND, read.wanted_B


def _measure(args: argparse.Namespace, expected: Curve | None) -> Curve:
    model, info = load_checkpoint(args.run)
    split_name = args.split or (expected.split if expected else "validation")
    caps = args.caps or ([point.cap for point in expected.points] if expected else range(model.config.capacity + 1))
    split, name = _open_split(args.data, model, info, split_name)
    samples = SplitId(name, split_name, split.digest)
    with torch.backends.cudnn.flags(allow_tf32=False):
        return evaluate(model.to(args.device), split, sorted(set(caps)), samples)


def _open_split(source: str | None, model: AdaTape, info: RunInfo, split_name: str) -> tuple[Split, str]:
    share = float(info.recipe.get("validation_share", 0.1))
    sizes = {"image_size": model.config.image_size, "seq_len": model.config.seq_len}
    data = open_source(source or info.data, **sizes, validation_share=share)
    if data.class_names != info.class_names:
        raise ValueError(f"classes of {data.name}; got {data.class_names}; expected the run's {info.class_names}")
    return data.split(split_name), data.name


def _write(curve: Curve, folder: Path) -> None:
    stem = folder / ("test" if curve.split == "test" else "curve")
    write_json(stem.with_suffix(".json"), asdict(curve))
    plot_curve(curve, stem)
    print(f"wrote {stem}.json, .png and .svg")


def _report(curve: Curve) -> str:
    head = f"{curve.data} {curve.split}: {curve.num_samples} samples, digest {curve.data_digest[:12]}"
    rows = [
        f"cap {point.cap:3d}  accuracy {point.accuracy:.2%} ({point.accuracy_low:.2%} to {point.accuracy_high:.2%})  "
        f"tape {point.mean_tape_length:.2f} of {point.mean_tape_length_wanted:.2f} wanted  "
        f"{point.mean_flops / 1e6:.2f} MFLOPs"
        for point in curve.points
    ]
    return "\n".join([head, *rows, f"tape length wanted, samples: {json.dumps(_counts(curve))}"])


def _counts(curve: Curve) -> dict[int, int]:
    return {length: count for length, count in enumerate(curve.histogram) if count}


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, then write the curve or compare it with an earlier one; return the exit status."""
    args = _parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    try:
        if is_rounds(args.run):
            return _report_rounds(args)
        expected = read_curve(args.check) if args.check else None
        curve = _measure(args, expected)
        print(_report(curve))
        if expected is None:
            _write(curve, args.out or args.run)
            if curve.split == "validation":
                print(f"next: python -m export {shlex.quote(str(args.run))} --repository model_repository")
    except (ValueError, OSError) as error:
        print(f"adatape.evaluate: {error}", file=sys.stderr)
        return 1
    lines = differences(expected, curve) if expected else []
    for line in lines:
        print(f"{args.check}: {line}", file=sys.stderr)
    if expected and not lines:
        print(f"{args.check}: holds at {len(expected.points)} caps")
    return 1 if lines else 0


def _report_rounds(args: argparse.Namespace) -> int:
    told = evaluate_run(args.run, args.data, args.split or "validation")
    print(table(told))
    out = args.json or args.run / ("test.json" if told["split"] == "test" else "curve.json")
    write(told, out)
    print(f"wrote {out} and its plots")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m adatape.evaluate", description="Measure a run's quality curve.")
    parser.add_argument("run", type=Path, help="run folder, for example runs/cifar10")
    parser.add_argument("--data", metavar="SOURCE", help="as for training; default: that of the run, if it has no path")
    parser.add_argument("--split", choices=("validation", "test"), help="default: validation, or that of --check")
    parser.add_argument("--caps", type=int, nargs="+", help="default: 0 to the tape capacity, or those of --check")
    parser.add_argument("--out", type=Path, help="folder for curve.json (or test.json) and plots; default: RUN")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="file for the figures of a rounds model; default: in RUN"
    )
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with this curve.json or manifest.json")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="CPU threads; default: all processors")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


if __name__ == "__main__":
    sys.exit(main())
