"""One run's model, optimiser and averaged weights, and what one step of training does.

Every random draw of a step follows from (seed, step) alone, so a run that was killed and resumed ends with the same
weights as one that was not.
Shape legend: B batch, P prefixes, C classes, N images, V views.
"""

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from adatape.checkpoint import read_json, save_tensors, write_json
from adatape.data import Dataset, Split
from adatape.rounds.checkpoint import build
from adatape.rounds.config import RoundsConfig
from adatape.rounds.model import Answers, Classifier, channels_last, to_pixels
from adatape.rounds.optimizer import make_optimizer
from adatape.rounds.plain import PlainConfig
from adatape.rounds.recipe import RoundsRecipe
from adatape.rounds.views import Views, load_targets
from adatape.transformer import scale_pixels

STATE, ROWS = "state.safetensors", "state.json"
WINDOW = 20
Tensors = tuple[Tensor, ...] | list[Tensor]


class Trainer:
    """One run; `teacher` is the folder that holds a teacher's answers, None for a run on labels alone."""

    def __init__(
        self,
        config: RoundsConfig | PlainConfig,
        recipe: RoundsRecipe,
        data: Dataset,
        *,
        seed: int = 0,
        teacher: Path | None = None,
    ) -> None:
        self.recipe, self.data, self.seed = recipe, data, seed
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        torch.manual_seed(seed)
        self.model = channels_last(build(config).to(self.device))
        self.num_prefixes = len(config.prefixes)
        self.optimizer = make_optimizer(self.model, recipe.lr, recipe.weight_decay)
        self.averaged = AveragedModel(self.model, multi_avg_fn=_averager(recipe.ema), use_buffers=True)
        self.precision = choose_precision(self.device)
        images_NHWC, num_views = torch.from_numpy(data.train.x).to(self.device), recipe.num_views if teacher else 0
        self.views = Views.of(images_NHWC, max_shift=recipe.max_shift, num_views=num_views)
        self.targets_VNC = load_targets(teacher, self.views).to(self.device) if teacher else None
        self.labels_N = torch.from_numpy(data.train.y).to(self.device)
        self.steps_per_epoch = max(1, len(data.train) // recipe.batch_size)
        self.total_steps = math.ceil(recipe.epochs * self.steps_per_epoch)
        self.step_number = 0

    @property
    def is_done(self) -> bool:
        return self.step_number >= self.total_steps

    @property
    def best_model(self) -> Classifier:
        """The model to keep: the averaged weights."""
        return cast("Classifier", self.averaged.module)

    def lr(self) -> float:
        """Return the learning rate of the coming step: linear warm-up, then a cosine to zero."""
        warm = min(1.0, (self.step_number + 1) / max(1, self.recipe.warmup_epochs * self.steps_per_epoch))
        return self.recipe.lr * warm * (0.5 + 0.5 * math.cos(math.pi * self.step_number / self.total_steps))

    def prefix_weights(self) -> Tensor:
        """Return how much each prefix counts now; they sum to 1."""
        is_full_first = self.step_number < self.recipe.full_first * self.total_steps
        weights_P = torch.full((self.num_prefixes,), self.recipe.early_weight if is_full_first else 1.0)
        weights_P[-1] = 1.0 if is_full_first else max(1.0, 0.5 * (self.num_prefixes - 1))
        return weights_P / weights_P.sum()

    def step(self) -> dict[str, float]:
        """Train on the next batch; return its figures."""
        epoch, position = divmod(self.step_number, self.steps_per_epoch)
        order_N = torch.randperm(len(self.labels_N), generator=torch.Generator().manual_seed(self.seed + 7919 * epoch))
        index_B = order_N[position * self.recipe.batch_size :][: self.recipe.batch_size].to(self.device)
        torch.manual_seed(self.seed * 1_000_003 + self.step_number + 1)
        x_BCHW = scale_pixels(self.views.take(index_B, epoch))
        x_BCHW = cut_out(x_BCHW, self.recipe.cutout).contiguous(memory_format=torch.channels_last)
        targets_BC = self._targets(index_B, self.views.number(epoch))
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr()
        self.model.train()
        with autocast(self.device, self.precision):
            answers = self.model(x_BCHW)
        loss, parts = self._loss(answers, targets_BC)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.averaged.update_parameters(self.model)
        self.step_number += 1
        return {name: float(value.detach()) for name, value in {"loss": loss, **parts}.items()}

    def _targets(self, index_B: Tensor, view: int) -> Tensor:
        labels_BC = F.one_hot(self.labels_N[index_B], len(self.data.class_names)).float()
        smooth_BC = labels_BC * (1 - self.recipe.label_smoothing) + self.recipe.label_smoothing / labels_BC.shape[1]
        if self.targets_VNC is None:
            return smooth_BC
        taught_BC = self.targets_VNC[view, index_B].float().exp()
        taught_BC = taught_BC / taught_BC.sum(1, keepdim=True)
        return torch.lerp(labels_BC, taught_BC, self.recipe.teacher_share)

    def _loss(self, answers: Answers, targets_BC: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what to minimise, and its parts.

        The rival first round shares the weight of the first; the difference of their losses is what the expected
        worth of their cells is fitted to.
        """
        losses_BP = cross_entropy(answers.logits_BPC, targets_BC[:, None])
        weights_P, losses_P = self.prefix_weights().to(losses_BP), losses_BP.mean(0)
        loss, parts = (losses_P * weights_P).sum(), {f"loss{i}": value for i, value in enumerate(losses_P)}
        if answers.rival_BC is None or answers.saved_B is None:
            return loss, parts
        rival_B = cross_entropy(answers.rival_BC, targets_BC)
        loss = loss + 0.5 * weights_P[1] * (rival_B.mean() - losses_P[1])
        order = (answers.saved_B - (rival_B - losses_BP[:, 1]).detach()).square().mean()
        return loss + self.recipe.order_weight * order, {**parts, "rival": rival_B.mean(), "order": order}

    def save(self, out: Path, rows: list[dict[str, float]]) -> None:
        """Write all that training changes; the tensors carry the step, so the two files cannot disagree about it."""
        write_json(out / ROWS, {"rows": rows, "precision": str(self.precision).removeprefix("torch.")})
        save_tensors(out / STATE, {**self._tensors(), "step": torch.tensor(self.step_number)})

    def resume(self, out: Path) -> list[dict[str, float]]:
        """Load a saved state; return the epochs logged so far. Without a saved state, start anew.

        Raises: ValueError if the saved state is of another model.
        """
        if not (out / STATE).is_file():
            return []
        saved, own = load_file(out / STATE), self._tensors()
        if set(saved) != {*own, "step"} or any(own[name].shape != saved[name].shape for name in own):
            raise ValueError(f"{out / STATE}; got the state of another model; expected that of this --config")
        for name, tensor in own.items():
            tensor.copy_(saved[name])
        self.step_number = self.optimizer.num_steps = int(saved["step"])
        told = read_json(out / ROWS)
        self.precision = getattr(torch, told["precision"])
        rows: list[dict[str, float]] = told["rows"]
        return [row for row in rows if row["step"] <= self.step_number]

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor.detach() for name, tensor in self.model.state_dict().items()}
        tensors |= {f"averaged.{name}": tensor.detach() for name, tensor in self.averaged.state_dict().items()}
        for index, moments in enumerate(self.optimizer.state.values()):
            tensors |= {f"moment.{index}.{name}": value for name, value in moments.items()}
        return tensors


def cut_out(x_BCHW: Tensor, side: int) -> Tensor:
    """Grey a square of each image, which may reach over the edge; draws from torch's global generator."""
    if not side:
        return x_BCHW
    batch, _, height, width = x_BCHW.shape
    top_B, left_B = (
        torch.randint(1 - side // 2, size - side // 2, (batch, 1, 1)).to(x_BCHW.device) for size in (height, width)
    )
    rows = torch.arange(height, device=x_BCHW.device)[None, :, None]
    columns = torch.arange(width, device=x_BCHW.device)[None, None, :]
    hidden = (rows >= top_B) & (rows < top_B + side) & (columns >= left_B) & (columns < left_B + side)
    return x_BCHW.masked_fill(hidden[:, None], 0.0)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy against probabilities, over the last axis."""
    return -(targets * logits.float().log_softmax(-1)).sum(-1)


@torch.no_grad()
def predict(model: Classifier, split: Split, device: str, batch_size: int = 500) -> Tensor:
    """Return logits [N,P,C] of a split, in full precision."""
    model.eval()
    batches = torch.split(torch.from_numpy(split.x), batch_size)
    return torch.cat([model(to_pixels(pixels.to(device))).logits_BPC.float().cpu() for pixels in batches])


def accuracy_by_prefix(logits_NPC: Tensor, labels_N: Tensor) -> Tensor:
    """Return the share of right answers at each prefix."""
    return (logits_NPC.argmax(-1) == labels_N[:, None]).float().mean(0)


def choose_precision(device: str) -> torch.dtype:
    """Time one convolution in both precisions; return bfloat16 where it is a fifth faster, else float32."""
    if device == "cuda":
        return torch.bfloat16
    conv = channels_last(nn.Conv2d(64, 64, 3, padding=1))
    x_BCHW = torch.randn(64, 64, 16, 16).contiguous(memory_format=torch.channels_last)
    times_s = {dtype: min(_time_s(conv, x_BCHW, dtype) for _ in range(5)) for dtype in (torch.float32, torch.bfloat16)}
    return torch.bfloat16 if times_s[torch.bfloat16] * 1.2 < times_s[torch.float32] else torch.float32


def _time_s(conv: nn.Conv2d, x_BCHW: Tensor, dtype: torch.dtype) -> float:
    start_s = time.thread_time()
    with torch.no_grad(), autocast("cpu", dtype):
        conv(x_BCHW)
    return time.thread_time() - start_s


def autocast(device: str, dtype: torch.dtype) -> contextlib.AbstractContextManager[object]:
    """Compute in `dtype` where that is not float32."""
    return torch.autocast(device, dtype=dtype, enabled=dtype != torch.float32)


def _averager(decay: float) -> Callable[[Tensors, Tensors, Tensor | int], None]:
    @torch.no_grad()
    def average(averages: Tensors, values: Tensors, num_averaged: Tensor | int) -> None:
        if not averages[0].is_floating_point():  # batch norm's counts
            torch._foreach_copy_(averages, values)
            return
        count = float(num_averaged)
        torch._foreach_lerp_(averages, values, 1 - min(decay, (1 + count) / (10 + count)))

    return average
