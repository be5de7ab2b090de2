"""The rounds of a model as graphs: a glance, one graph a round that takes the state of the one before, and one pass.

Shape legend: B batch, H height, W width, M cells of the bank, L blocks, T tokens seen so far, P prefixes, C classes,
D dim.
"""

from dataclasses import dataclass

import onnx
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from adatape.rounds.config import RoundsConfig
from adatape.rounds.model import NUM_GLANCE, Glance, RoundsModel, to_pixels
from adatape.rounds.plain import PlainConfig, PlainNet
from adatape.rounds.worth import WorthHead
from export.graphs import TRACED_BATCH, export_module

GLANCE_OUTPUTS = ("logits", "accuracy_at", "tokens", "context", "order")
ROUND_OUTPUTS = ("logits", "accuracy_at", "present")
"""A round's `present` is the `past` of the next."""
FIRST_INPUTS = ("image", "context", "order", "tokens")
LATER_INPUTS = ("image", "context", "order", "past")


class GlanceHalf(nn.Module):
    """Pixels to the first answer, its worth, and the state that rounds start from."""

    def __init__(self, model: RoundsModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_BHWC: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        glance = self.model.glance(to_pixels(image_BHWC))
        accuracy_BP = self.model.worth(glance.logits_BC, 0)
        return glance.logits_BC, accuracy_BP, glance.tokens_BLD, glance.context_BCHW, glance.order_BM.to(torch.int32)


class RoundHalf(nn.Module):
    """One round: its cells' pixels and the state so far to an answer, its worth and the state for the next round."""

    def __init__(self, model: RoundsModel, number: int) -> None:
        super().__init__()
        self.model, self.number = model, number

    def forward(self, image_BHWC: Tensor, context_BCHW: Tensor, order_BM: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        """`seen` is the glance's tokens [B,4,D] for round 1, `past` [B,2L,T,D] after it."""
        is_first = self.number == 1
        nothing = torch.empty(0)  # what a round does not use
        glance = Glance(nothing, seen if is_first else nothing, context_BCHW, nothing, order_BM.to(torch.int64))
        past = None if is_first else list(torch.unflatten(seen, 1, (-1, 2)).permute(1, 2, 0, 3, 4).unbind(0))
        logits_BC, past = self.model.read(to_pixels(image_BHWC), glance, self.number, past)
        stacked_BLTD = torch.stack(past).permute(2, 0, 1, 3, 4).flatten(1, 2)
        return logits_BC, self.model.worth(logits_BC, self.number), stacked_BLTD


class OnePassHalf(nn.Module):
    """Pixels to the answer at full tape, for who cannot stop early."""

    def __init__(self, model: RoundsModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image_BHWC: Tensor) -> tuple[Tensor, Tensor]:
        logits_BC = self.model(to_pixels(image_BHWC)).logits_BPC[:, -1]
        return logits_BC, self.model.worth(logits_BC, len(self.model.config.prefixes) - 1)


@dataclass(frozen=True, slots=True)
class RoundGraphs:
    """All graphs of one model; `rounds[i]` reads from prefix i to prefix i + 1."""

    glance: onnx.ModelProto
    rounds: tuple[onnx.ModelProto, ...]
    one_pass: onnx.ModelProto


def round_graphs(model: RoundsModel) -> RoundGraphs:
    """Return a model's graphs, of whatever batch."""
    config = model.config
    image_BHWC = torch.zeros(TRACED_BATCH, config.image_size, config.image_size, 3, dtype=torch.uint8)
    rounds = []
    for number in range(1, len(config.prefixes)):
        names = FIRST_INPUTS if number == 1 else LATER_INPUTS
        arguments = (image_BHWC, *_state(model, number))
        rounds.append(export_module(RoundHalf(model, number), names, ROUND_OUTPUTS, arguments))
    return RoundGraphs(
        export_module(GlanceHalf(model), ("image",), GLANCE_OUTPUTS, (image_BHWC,)),
        tuple(rounds),
        export_module(OnePassHalf(model), ("image",), ("logits", "accuracy_at"), (image_BHWC,)),
    )


def _state(model: RoundsModel, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return state of the shapes that a round takes."""
    config = model.config
    context_BCHW = torch.zeros(TRACED_BATCH, config.cell_widths[1], config.image_size // 4, config.image_size // 4)
    order_BM = torch.arange(config.num_cells, dtype=torch.int32).expand(TRACED_BATCH, -1).contiguous()
    num_seen = tokens_seen(config, number - 1)
    shape = (num_seen, config.dim) if number == 1 else (2 * config.depth, num_seen, config.dim)
    return context_BCHW, order_BM, torch.zeros(TRACED_BATCH, *shape)


def tokens_seen(config: RoundsConfig, number: int) -> int:
    """Return how many tokens stand in the sequence after a round: the glance's, tape and readouts."""
    return NUM_GLANCE + config.prefixes[number] + number


class PlainHalf(nn.Module):
    """A model that reads once; as a rung of a ladder it says what later rungs would be worth."""

    def __init__(self, model: PlainNet, worth: WorthHead | None, number: int) -> None:
        super().__init__()
        self.model, self.worth, self.number = model, worth, number

    def forward(self, image_BHWC: Tensor) -> tuple[Tensor, ...]:
        logits_BC = self.model(to_pixels(image_BHWC)).logits_BPC[:, 0]
        return (logits_BC,) if self.worth is None else (logits_BC, self.worth(logits_BC, self.number))


def plain_graph(model: PlainNet, worth: WorthHead | None = None, number: int = 0) -> onnx.ModelProto:
    """Return a plain model's graph, with the worth of a ladder at its rung `number` where there is one."""
    size = model.config.image_size
    image_BHWC = torch.zeros(TRACED_BATCH, size, size, 3, dtype=torch.uint8)
    outputs = ("logits",) if worth is None else ("logits", "accuracy_at")
    return export_module(PlainHalf(model, worth, number), ("image",), outputs, (image_BHWC,))


def plain_mflops(config: PlainConfig) -> float:
    """Return what one answer of a plain model costs, as torch counts it."""
    size = config.image_size
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        PlainNet(config).eval()(torch.zeros(1, 3, size, size))
    return float(counter.get_total_flops()) / 1e6
