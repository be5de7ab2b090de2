"""What each prefix of a rounds model costs, from its config alone: 1 multiply-add = 2 FLOPs.

Counted are convolutions and matrix products, as torch's counter does.
"""

from adatape.rounds.cells import HALO
from adatape.rounds.config import RoundsConfig
from adatape.rounds.model import KEY_DIM, NUM_GLANCE


def prefix_flops(config: RoundsConfig) -> tuple[int, ...]:
    """Return the FLOPs of an answer at each prefix, everything before it included."""
    totals = [_glance_macs(config)]
    for number in range(1, len(config.prefixes)):
        totals.append(totals[-1] + _round_macs(config, number))
    return tuple(2 * macs for macs in totals)


def _conv_macs(size: int, channels: int, out: int, kernel: int = 3) -> int:
    """Multiply-adds of a convolution whose output has `size` x `size` positions."""
    return size**2 * kernel**2 * channels * out


def _glance_macs(config: RoundsConfig) -> int:
    one, two, three, four, five = config.glance_widths
    half, fine, coarse = config.image_size // 2, config.image_size // 4, config.image_size // 8
    convolutions = (
        _conv_macs(half, 3, one, 4)
        + _conv_macs(half, one, two)
        + _conv_macs(fine, two, three)
        + _conv_macs(coarse, three, four)
        + _conv_macs(coarse, four, five)
        + _conv_macs(fine, three, config.cell_widths[1], 1)
        + _conv_macs(coarse, five, config.cell_widths[1], 1)
    )
    tokens = NUM_GLANCE * five * config.dim
    scores = KEY_DIM * (2 * five + config.num_cells * (five + 1))
    return convolutions + tokens + scores + 2 * five * config.num_classes


def _cell_macs(config: RoundsConfig) -> int:
    one, two, three, four, five = config.cell_widths
    size = config.cell_size
    return (
        _conv_macs(size + 2 * HALO - 2, 3, one)
        + _conv_macs(size, one, two)
        + _conv_macs(size // 2, two, three)
        + _conv_macs(size // 2, three, four)
        + _conv_macs(size // 4, four, five)
        + (size // 4) ** 2 * five * config.dim
    )


def _round_macs(config: RoundsConfig, number: int) -> int:
    """Count a round's cells, and its new tokens in the trunk."""
    size, dim = config.sizes[number - 1], config.dim
    num_glance = NUM_GLANCE if number == 1 else 0
    num_new = num_glance + size + 1
    num_seen = NUM_GLANCE + config.prefixes[number] + number
    attention = num_new * (4 * dim**2 + 2 * num_seen * dim)
    feed_forward = num_glance * 2 * dim * config.mlp_dim + (size + 1) * 3 * dim * config.tape_ffn_dim
    return size * _cell_macs(config) + config.depth * (attention + feed_forward) + dim * config.num_classes
