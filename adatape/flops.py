"""Analytic FLOPs of a sample by stage: what `torch.utils.flop_counter` counts, without running anything.

Matrix products, convolutions and attention count; normalisation, softmax and activations do not.
"""

from dataclasses import dataclass

from adatape.config import ModelConfig, TapeConfig

FLOPS_PER_MULTIPLY_ADD = 2


@dataclass(frozen=True, slots=True)
class StageFlops:
    """FLOPs of one sample by stage; a multiply-add counts as 2.

    embed: tokenise, and the blocks before the first tape. bank: build the tape bank, paid when
    the cap is above 0. read_step: read one token, in every tape layer. trunk[t]: the remaining
    blocks with t tape tokens from every tape layer, and the head.
    """

    embed: int
    bank: int
    read_step: int
    trunk: tuple[int, ...]

    def total(self, tape_length: int, cap: int | None = None) -> int:
        """Return the useful FLOPs of a sample with this tape length; a cap of 0 spares the bank."""
        is_reading = cap != 0 and len(self.trunk) > 1
        read = self.bank + tape_length * self.read_step if is_reading else 0
        return self.embed + read + self.trunk[tape_length]


def stage_flops(config: ModelConfig) -> StageFlops:
    """Return the FLOPs of each stage.

    Source: the totals of the paper's sizes follow from the sum over layers; XLA reports 1 % more, for
    it also counts normalisation and softmax.
    """
    tape = config.tape
    first = tape.layers[0] if tape else config.depth
    embed = embedding_multiply_adds(config) + first * block_multiply_adds(config, config.num_tokens)
    trunk = tuple(_trunk(config, first, length) for length in range(config.capacity + 1))
    bank, step = (_bank(config, tape), _read_step(config, tape)) if tape else (0, 0)
    return StageFlops(
        FLOPS_PER_MULTIPLY_ADD * embed,
        FLOPS_PER_MULTIPLY_ADD * bank,
        FLOPS_PER_MULTIPLY_ADD * step,
        tuple(FLOPS_PER_MULTIPLY_ADD * count for count in trunk),
    )


# Below, everything is in multiply-adds.


def embedding_multiply_adds(config: ModelConfig) -> int:
    """Return the cost of tokenising one sample."""
    if config.input == "parity":
        return 3 * config.seq_len * config.dim
    return 3 * (config.image_size // config.patch * config.patch) ** 2 * config.dim


def block_multiply_adds(config: ModelConfig, num_tokens: int, num_tape: int = 0) -> int:
    """Return the cost of one block over this many input tokens and tape tokens."""
    dim, length = config.dim, num_tokens + num_tape
    own_ffn = config.tape.tape_ffn_dim if config.tape else 0
    tape_ffn = 3 * dim * own_ffn if own_ffn else 2 * dim * config.mlp_dim
    attention = 4 * length * dim**2 + 2 * length**2 * dim
    return attention + 2 * num_tokens * dim * config.mlp_dim + num_tape * tape_ffn


def _trunk(config: ModelConfig, first: int, tape_length: int) -> int:
    layers = config.tape.layers if config.tape else ()
    num_read = (sum(layer <= index for layer in layers) for index in range(first, config.depth))
    return (
        sum(block_multiply_adds(config, config.num_tokens, tape_length * num) for num in num_read)
        + config.dim * config.num_classes
    )


def _bank(config: ModelConfig, tape: TapeConfig) -> int:
    fixed = 0 if tape.halting_threshold is not None else len(tape.layers) * _scores(config, tape)
    if tape.bank == "learn":
        return fixed
    if config.input == "parity":
        return fixed + 3 * config.bank_size * config.dim
    tokenise, features = _bank_stem(config, tape)
    return fixed + tokenise + config.bank_size * features * config.dim


def _bank_stem(config: ModelConfig, tape: TapeConfig) -> tuple[int, int]:
    """Return the cost of tokenising the image for the bank, and the features of an entry."""
    if not tape.bank_stem:
        return 3 * tape.bank_patch**2 * config.bank_size * config.dim, config.dim
    cost, side, previous = 0, config.image_size, 3
    for channels, stride in tape.bank_stem:
        side = (side - 1) // stride + 1
        cost += 9 * previous * channels * side**2
        previous = channels
    return cost, previous


def _scores(config: ModelConfig, tape: TapeConfig) -> int:
    return config.bank_size * (config.dim // tape.key_split)


def _read_step(config: ModelConfig, tape: TapeConfig) -> int:
    digest = 3 * config.dim * tape.tape_mlp_dim
    if tape.halting_threshold is None:  # scored once, with the bank; nothing is merged
        return len(tape.layers) * digest
    merge = tape.reads_per_step * config.dim
    return len(tape.layers) * (_scores(config, tape) + merge + digest)
