"""The models of the image study on onnxruntime: as many graphs as their control flow needs, and the flow in numpy.

What has its answer leaves the batch, as in a server. A-ViT stays in torch: its tokens leave one by one.

Shape legend: B images, R images that still run, S tokens, D dim, C classes.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, at the import that follows

import copy

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from adatape.baselines.act import ActTransformer
from adatape.baselines.depth import DepthModel
from adatape.baselines.pondernet import PonderNet
from adatape.flops import stage_flops
from adatape.model import AdaTape
from adatape.transformer import Transformer, scale_pixels, to_inputs
from export.buckets import choose_buckets
from export.graphs import export_module, reader_graph, trunk_graph
from export.modules import PatchProduct
from export.names import Names
from export.pipeline import write_graphs
from export.runtime import Runtime
from server.records import Floats, Pixels

Answer = Callable[[Pixels], Floats]
NUM_BUCKETS = 5


class Embedding(nn.Module):
    """Pixels to tokens."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        assert isinstance(model.embedding, nn.Conv2d), "This is a bug."
        self.model.embedding = PatchProduct(model.embedding)

    def forward(self, image_BHWC: Tensor) -> Tensor:
        return self.model.tokenise(scale_pixels(image_BHWC))


class Whole(Embedding):
    """Pixels to logits, for a model that reads no tape and stops nowhere."""

    def forward(self, image_BHWC: Tensor) -> Tensor:
        assert isinstance(self.model, AdaTape), "This is a bug."
        return self.model.classify(self.model.embed(scale_pixels(image_BHWC)))


class Step(nn.Module):
    """One block of a depth-adaptive model, and the probability of halting behind it."""

    def __init__(self, model: DepthModel, step: int) -> None:
        super().__init__()
        self.model, self.step = model, step

    def forward(self, x_BSD: Tensor) -> tuple[Tensor, Tensor]:
        x_BSD = self.model.take_step(x_BSD, self.step)
        return x_BSD, self.model.halting_probability(x_BSD)


class Head(nn.Module):
    """Tokens to logits."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, x_BSD: Tensor) -> Tensor:
        return self.model.classify(x_BSD)


def eager(model: Transformer) -> Answer:
    """Return the model as torch runs it."""

    def answer(image_BHWC: Pixels) -> Floats:
        with torch.no_grad():
            logits_BC: Floats = model(to_inputs(torch.from_numpy(image_BHWC), model.config)).logits_BC.numpy()
        return logits_BC

    return answer


def compiled(model: Transformer, wanted: list[int], folder: Path) -> Answer | None:
    """Return the model on onnxruntime, or None where its control flow is not one of graphs.

    `wanted[t]` counts the images that read t tokens; an AdaTape's buckets are the best for them.
    """
    if isinstance(model, AdaTape) and model.config.tape:
        return _tape(model, wanted, folder)
    if isinstance(model, AdaTape):
        whole = _session(Whole(model), ("image",), ("logits",), _pixels(model))
        return lambda image_BHWC: whole(image_BHWC)[0]
    if isinstance(model, ActTransformer | PonderNet):
        return _by_steps(model)
    return None


def _tape(model: AdaTape, wanted: list[int], folder: Path) -> Answer:
    shares = [count / sum(wanted) for count in wanted]
    buckets = choose_buckets(shares, stage_flops(model.config).trunk, min(NUM_BUCKETS, len(wanted)))
    names = Names("study", "1", buckets)
    graphs = {names.reader: reader_graph(model), names.trunk: trunk_graph(model)}
    write_graphs(folder, names, graphs | {names.static(bucket): trunk_graph(model, bucket) for bucket in buckets})
    runtime, capacity = Runtime(folder, names), model.config.capacity
    return lambda image_BHWC: runtime.answer(image_BHWC, capacity)[0]


def _by_steps(model: ActTransformer | PonderNet) -> Answer:
    tokens = torch.zeros(3, model.config.num_tokens, model.config.dim)
    embed = _session(Embedding(model), ("image",), ("tokens",), _pixels(model))
    steps = [_session(Step(model, step), ("tokens",), ("next", "halting"), tokens) for step in range(model.max_steps)]
    head = _session(Head(model), ("tokens",), ("logits",), tokens)
    flow = _act(model.act.epsilon) if isinstance(model, ActTransformer) else _ponder

    def answer(image_BHWC: Pixels) -> Floats:
        return flow(embed(image_BHWC)[0], steps, lambda x_BSD: head(x_BSD)[0])

    return answer


Session = Callable[[Any], list[Floats]]
Flow = Callable[[Floats, list[Session], Callable[[Floats], Floats]], Floats]


def _act(epsilon: float) -> Flow:
    def flow(x_RSD: Floats, steps: list[Session], head: Callable[[Floats], Floats]) -> Floats:
        mean_BSD, spent_B, rows_R = np.zeros_like(x_RSD), np.zeros(len(x_RSD), np.float32), np.arange(len(x_RSD))
        for number, step in enumerate(steps, 1):
            x_RSD, p_R = step(x_RSD)
            left_R = 1 - spent_B[rows_R]
            halts_R = (p_R >= left_R - epsilon) | (number == len(steps))
            w_R = np.where(halts_R, left_R, p_R)
            mean_BSD[rows_R] += w_R[:, None, None] * x_RSD
            spent_B[rows_R] += w_R
            rows_R, x_RSD = rows_R[~halts_R], x_RSD[~halts_R]
            if len(rows_R) == 0:
                break
        return head(mean_BSD)

    return flow


def _ponder(x_RSD: Floats, steps: list[Session], head: Callable[[Floats], Floats]) -> Floats:
    left_R, rows_R, logits = np.ones(len(x_RSD), np.float32), np.arange(len(x_RSD)), {}
    for number, step in enumerate(steps, 1):
        x_RSD, rate_R = step(x_RSD)
        left_R = left_R * (1 - rate_R)
        stops_R = (left_R <= 0.5) | (number == len(steps))
        if stops_R.any():
            logits |= dict(zip(rows_R[stops_R].tolist(), head(x_RSD[stops_R]), strict=True))
        rows_R, x_RSD, left_R = rows_R[~stops_R], x_RSD[~stops_R], left_R[~stops_R]
        if len(rows_R) == 0:
            break
    return np.stack([logits[row] for row in range(len(logits))])


def _pixels(model: Transformer) -> Tensor:
    return torch.zeros(3, model.config.image_size, model.config.image_size, 3, dtype=torch.uint8)


def _session(module: nn.Module, inputs: tuple[str], outputs: tuple[str, ...], argument: Tensor) -> Session:
    graph = export_module(module, inputs, outputs, (argument,)).SerializeToString()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(list(outputs), {inputs[0]: batch})
