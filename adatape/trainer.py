"""One run's model, optimiser and averaged weights, and what one step of training does.

Every random draw of a step follows from (seed, step) alone, so a run that was killed and resumed
ends with the same weights as one that was not.

Shape legend: B batch, C classes.
"""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from adatape.augment import augment, mix
from adatape.config import ModelConfig
from adatape.configs import Preset, Recipe
from adatape.data import Dataset, Split
from adatape.loss import weighted_mean
from adatape.state import M, TrainState
from adatape.transformer import Transformer, to_inputs

BETAS = (0.9, 0.99)
Tensors = tuple[Tensor, ...] | list[Tensor]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Learning rate over a run: linear warm-up, then a cosine to zero."""

    peak: float
    warmup_steps: int
    total_steps: int

    def at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        return self.peak * warm * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / self.total_steps)))


class Trainer(Generic[M]):
    """One run: model, optimiser, averaged weights and the loop over epochs."""

    def __init__(
        self, chosen: Preset, data: Dataset, build: Callable[[ModelConfig], M], *, seed: int, device: str
    ) -> None:
        self.recipe, self.data, self.seed, self.device = chosen.recipe, data, seed, device
        torch.manual_seed(seed)
        model = build(chosen.model).to(device)
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it; convolutions run faster so
        if self.recipe.loss == "softmax":
            torch.nn.init.zeros_(model.head.bias)  # the official -6.9 is for the sigmoid loss
        self.steps_per_epoch = max(1, len(data.train) // self.recipe.batch_size)
        total_steps = math.ceil(self.recipe.epochs * self.steps_per_epoch)
        warmup_steps = int(self.recipe.warmup_epochs * self.steps_per_epoch)
        self.schedule = Schedule(self.recipe.lr, warmup_steps, total_steps)
        self.state = TrainState(model, _optimizer(model, self.recipe), _averaged(model, self.recipe), step=0)
        self.forward = torch.compile(model) if device == "cuda" else model
        self.train_x = torch.from_numpy(data.train.x).to(device)
        self.train_y = torch.from_numpy(data.train.y).to(device)

    @property
    def is_done(self) -> bool:
        return self.state.step >= self.schedule.total_steps

    @property
    def epochs_done(self) -> float:
        return self.state.step / self.steps_per_epoch

    def step(self) -> dict[str, float]:
        """Train on the next batch; return its figures."""
        state, recipe = self.state, self.recipe
        index_B = self._batch_index()
        torch.manual_seed(self.seed * 1_000_003 + state.step + 1)
        cap = draw_cap(recipe, self.state.model.config.capacity)
        x, y_BC = self._inputs(index_B)
        for group in state.optimizer.param_groups:
            group["lr"] = self.schedule.at(state.step)
        state.model.train()
        with _autocast(self.device):
            output = self.forward(x, cap)
        loss = weighted_mean(state.model.losses(output, y_BC, recipe.loss, recipe.label_smoothing))
        total = loss + state.model.ponder_weight * weighted_mean(output.ponder_B)
        state.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), recipe.clip_norm)
        state.optimizer.step()
        if state.averaged is not None:
            state.averaged.update_parameters(state.model)
        state.step += 1
        correct = (output.logits_BC.argmax(1) == y_BC.argmax(1)).float().mean()
        tape_length = output.reads[-1].length_B.float().mean() if output.reads else torch.zeros(())
        return {"loss": float(loss.detach()), "accuracy": float(correct), "tape": float(tape_length), "cap": cap}

    def _batch_index(self) -> Tensor:
        epoch, position = divmod(self.state.step, self.steps_per_epoch)
        generator = torch.Generator().manual_seed(self.seed * 7_919 + epoch)
        order = torch.randperm(len(self.train_y), generator=generator)
        return order[position * self.recipe.batch_size : (position + 1) * self.recipe.batch_size].to(self.device)

    def _inputs(self, index_B: Tensor) -> tuple[Tensor, Tensor]:
        y_BC = F.one_hot(self.train_y[index_B], len(self.data.class_names)).float()
        x = augment(to_inputs(self.train_x[index_B], self.state.model.config), self.recipe).contiguous()
        return mix(x, y_BC, self.recipe.mix) if self.recipe.mix else (x, y_BC)

    def best_model(self) -> M:
        """Return the model to keep: the averaged weights where there are any."""
        return cast("M", self.state.averaged.module) if self.state.averaged is not None else self.state.model


def draw_cap(recipe: Recipe, capacity: int) -> int:
    """Draw the tape cap of one batch from torch's global generator."""
    if not recipe.caps or torch.rand(()) < recipe.full_tape_share:
        return capacity
    return recipe.caps[int(torch.randint(len(recipe.caps), ()))]


@torch.no_grad()
def validate(model: Transformer, split: Split, caps: list[int], device: str, batch_size: int = 500) -> dict[str, float]:
    """Return accuracy at each cap and the mean tape length without one."""
    model.eval()
    figures = dict.fromkeys((f"accuracy_cap{cap}" for cap in caps), 0.0) | {"tape": 0.0}
    for start in range(0, len(split), batch_size):
        x = to_inputs(torch.from_numpy(split.x[start : start + batch_size]).to(device), model.config)
        y_B = torch.from_numpy(split.y[start : start + batch_size]).to(device)
        for cap in caps:
            with _autocast(device):
                output = model(x, cap)
            figures[f"accuracy_cap{cap}"] += float((output.logits_BC.argmax(1) == y_B).sum()) / len(split)
            if cap == model.config.capacity and output.reads:
                figures["tape"] += float(output.reads[-1].length_B.sum()) / len(split)
    return figures


def _optimizer(model: Transformer, recipe: Recipe) -> torch.optim.AdamW:
    parameters = list(model.parameters())
    decayed = {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay}
    others = {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}
    return torch.optim.AdamW([decayed, others], lr=recipe.lr, betas=BETAS)


def _averaged(model: Transformer, recipe: Recipe) -> torch.optim.swa_utils.AveragedModel | None:
    if not recipe.ema:
        return None

    @torch.no_grad()
    def average(averages: Tensors, values: Tensors, num_averaged: Tensor | int) -> None:
        if not averages[0].is_floating_point():  # batch norm's counts
            torch._foreach_copy_(averages, values)
            return
        count = float(num_averaged)
        weight = 1 - min(recipe.ema, (1 + count) / (10 + count))  # a young average must forget the random start
        torch._foreach_lerp_(averages, values, weight)

    return torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def _autocast(device: str) -> contextlib.AbstractContextManager[object]:
    return torch.autocast(device, dtype=torch.bfloat16)
