"""`python -m benchmarks.reading`: the share of a full-tape answer's time that reading takes."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.command import Options, find_manifest, parser, print_progress, run
from benchmarks.cores import cores, pin_to
from benchmarks.direct import BATCHES, Graphs, open_graph
from benchmarks.inputs import load_pictures
from benchmarks.report import Aim, Report, Row
from loadtest.process import ROOT
from server.models.manifest import Manifest
from server.records import Pixels

FAMILIES = ("adatape_cifar10", "adatape_photo")
MAX_SHARE = 0.15
NUM_PICTURES = 128
NUM_SWEEPS = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Time the reader, the reader ended at the bank, and whole answers, in turn."""
    options = parser("reading", "time of the steps that read the tape ÷ time of a full-tape answer")
    options.add_argument("--families", nargs="+", default=list(FAMILIES), help="which (default: %(default)s)")
    options.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="model repository")
    options.add_argument("--data", type=Path, nargs="+", help=".npz with x_test, y_test, one a family in their order")
    options.add_argument("--rounds", type=int, default=15, help="A B C rounds (default: %(default)s)")
    options.add_argument("--cpu-time", action="store_true", help="time of the thread, not of the clock")
    run(measure, options, arguments)


@dataclass(slots=True)
class Spent:
    """Seconds for all pictures, one value a round: to the bank, to the tape, to the answer."""

    bank_s: list[float] = field(default_factory=list)
    read_s: list[float] = field(default_factory=list)
    answer_s: list[float] = field(default_factory=list)

    @property
    def shares(self) -> list[float]:
        """Return the part of each round's answers that reading took."""
        rounds = zip(self.bank_s, self.read_s, self.answer_s, strict=True)
        return [(read - bank) / answer for bank, read, answer in rounds]


class Timed:
    """One family's graphs on this thread: whole, and the reader ended at the bank."""

    def __init__(self, repository: Path, manifest: Manifest, images: Pixels, clock: Callable[[], float]) -> None:
        import onnx

        from benchmarks.reader_graph import count_nodes, cut_at_bank

        self._graphs, self._images, self._clock = Graphs(repository, manifest), images, clock
        reader = onnx.load(repository / manifest.reader.files[0].path)
        cut = cut_at_bank(reader)
        self._bank = open_graph(cut.SerializeToString())
        self.num_nodes, self.num_cut_nodes = count_nodes(reader.graph), count_nodes(cut.graph)
        self._capacity, self.max_batch_size = manifest.tape_capacity, manifest.max_batch_size

    def bank_s(self, batch: int) -> float:
        return self._over_batches(
            batch, lambda images: self._bank.run(None, self._graphs.feeds(images, self._capacity))
        )

    def read_s(self, batch: int) -> float:
        return self._over_batches(batch, lambda images: self._graphs.read(images, self._capacity))

    def answer_s(self, batch: int) -> float:
        start_s = self._clock()
        self._graphs.classify(self._images, batch=batch)
        return self._clock() - start_s

    def best_batch(self) -> int:
        """Return the batch size at which the pictures are answered fastest."""
        batches = [batch for batch in BATCHES if batch <= self.max_batch_size]
        sweeps = [[self.answer_s(batch) for batch in batches] for _ in range(NUM_SWEEPS)]
        return min(zip(map(min, zip(*sweeps, strict=True)), batches, strict=True))[1]

    def spent(self, batch: int, rounds: int) -> Spent:
        """Time all three in turn."""
        found = Spent()
        for _ in range(rounds):
            found.bank_s.append(self.bank_s(batch))
            found.read_s.append(self.read_s(batch))
            found.answer_s.append(self.answer_s(batch))
        return found

    def _over_batches(self, batch: int, work: Callable[[Pixels], object]) -> float:
        start_s = self._clock()
        for start in range(0, len(self._images), batch):
            work(self._images[start : start + batch])
        return self._clock() - start_s


def measure(options: Options) -> Report:
    """Take each family at batch 1 and at its best batch."""
    try:
        import onnx  # noqa: F401 - the cut needs it, and its absence is worth a word before anything is timed
    except ImportError as error:
        raise SystemExit(f"reading; got {error}; expected the training environment: make train-setup") from error
    data = options.data or [None] * len(options.families)
    if len(data) != len(options.families):
        raise SystemExit(f"--data; got {len(data)} files; expected one for each of {' '.join(options.families)}")
    pin_to(cores()[0])
    report = Report("reading", "Reading's share of a full-tape answer")
    for family, file in zip(options.families, data, strict=True):
        _measure_family(report, options, family, file)
    report.notes.append(
        "Reading is the reader's time less that of the same graph ended at the bank (tokeniser, first block, bank, "
        "normalisation); an answer is the reader and the trunk of each picture's own bucket, without a cap. "
        f"One thread on one core; {NUM_PICTURES} pictures; medians over {options.rounds} rounds of the three in turn. "
        "Nodes are those of the exported file: of the whole reader, and of what the cut leaves out."
        + (" Time is that of the thread, not of the clock." if options.cpu_time else "")
    )
    return report


def _measure_family(report: Report, options: argparse.Namespace, family: str, data: Path | None) -> None:
    manifest = find_manifest(options.repository, family)
    pictures = load_pictures(manifest, NUM_PICTURES, data)
    clock = time.thread_time if options.cpu_time else time.perf_counter
    timed = Timed(options.repository, manifest, pictures.pixels_BHWC, clock)
    best = timed.best_batch()
    for batch in sorted({1, best}):
        print_progress(f"{family}, batch {batch}")
        spent = timed.spent(batch, 2 if options.quick else options.rounds)
        report.rows.append(_row(family, batch, timed, spent))
        report.details[f"{family}, batch {batch}"] = {"shares": spent.shares}
        name = f"reading ÷ full-tape answer, {family}, batch {batch}"
        report.aims.append(Aim(name, median(spent.shares), MAX_SHARE, is_at_least=False))
    report.notes.append(f"{family} ({manifest.precision}): {pictures.source}.")


def _row(family: str, batch: int, timed: Timed, spent: Spent) -> Row:
    return {
        "family": family,
        "batch": batch,
        "n": len(spent.shares),
        "to bank µs": median(spent.bank_s) / NUM_PICTURES * 1e6,
        "to tape µs": median(spent.read_s) / NUM_PICTURES * 1e6,
        "answer µs": median(spent.answer_s) / NUM_PICTURES * 1e6,
        "share": median(spent.shares),
        "lowest": min(spent.shares),
        "highest": max(spent.shares),
        "reader nodes": timed.num_nodes,
        "reading nodes": timed.num_nodes - timed.num_cut_nodes,
    }


if __name__ == "__main__":
    main()
