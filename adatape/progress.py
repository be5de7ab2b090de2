"""What a run tells while it goes: a progress bar's figures, a CSV file and TensorBoard events."""

import csv
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from torch.utils.tensorboard import SummaryWriter

from adatape.checkpoint import RunInfo

WINDOW = 50  # batches that the running means cover


class RunLog:
    """Figures of one run; `rows` holds one row an epoch, those of earlier sessions included."""

    def __init__(self, out: Path, rows: list[dict[str, float]]) -> None:
        self.rows = rows
        self._csv_path = out / "epochs.csv"
        self._board = SummaryWriter(str(out / "tensorboard"))
        self._recent: deque[dict[str, float]] = deque(maxlen=WINDOW)
        self._times_s: deque[float] = deque(maxlen=WINDOW + 1)
        self._step = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._board.close()

    def batch(self, step: int, figures: dict[str, float]) -> None:
        """Note one training batch."""
        self._step = step
        self._recent.append(figures)
        self._times_s.append(time.monotonic())
        if step % WINDOW == 0:
            for name in ("loss", "accuracy", "tape"):
                self._board.add_scalar(f"train/{name}", self._mean(name), step)

    def epoch(self, epochs: float, figures: dict[str, float]) -> None:
        """Note one epoch's validation and rewrite the CSV file."""
        self.rows.append({"step": self._step, "epoch": round(epochs, 3), "train_loss": self._mean("loss"), **figures})
        for name, value in figures.items():
            self._board.add_scalar(f"validation/{name}", value, self._step)
        with self._csv_path.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.rows[-1]))
            writer.writeheader()
            writer.writerows(self.rows)

    def postfix(self, batch_size: int) -> dict[str, str]:
        """Return what the progress bar shows beside its own time left."""
        elapsed_s = self._times_s[-1] - self._times_s[0]
        rate = batch_size * (len(self._times_s) - 1) / elapsed_s if elapsed_s > 0 else 0.0
        shown = {
            "loss": f"{self._mean('loss'):.3f}",
            "acc": f"{self._mean('accuracy'):.3f}",
            "tape": f"{self._mean('tape'):.1f}",
        }
        return {**shown, "images/s": f"{rate:.0f}"}

    def epoch_line(self) -> str:
        """Return the last epoch's figures as one line."""
        return (
            "  ".join(f"{name} {value:.4g}" for name, value in self.rows[-1].items())
            if self.rows
            else "no epoch finished"
        )

    def with_curve(self, info: RunInfo) -> RunInfo:
        return replace(info, curve=self.rows)

    def _mean(self, name: str) -> float:
        return sum(figures[name] for figures in self._recent) / max(1, len(self._recent))
