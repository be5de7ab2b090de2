"""What a model is: validated, immutable, and round-tripping through JSON.

Source: Xue et al. 2023; the names in brackets are the official code's.
"""

from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any, Literal, Self

Pooling = Literal["token", "gap", "gmp", "gsp"]


@dataclass(frozen=True, slots=True)
class TapeConfig:
    """The tape: where it is read, from which bank, how long it may grow and when it halts.

    `halting_threshold` [act_epsilon] is the accumulated weight at which reading stops; None reads
    a fixed-length tape. Each step merges `reads_per_step` = int(capacity // threshold) bank entries.
    `bank_stem` lists (channels, stride) of the convolutions that tokenise an input-driven bank;
    empty is the paper's single linear patch embedding.
    """

    capacity: int = 10  # [num_tape_tokens]
    halting_threshold: float | None = 2.0
    layers: tuple[int, ...] = (1,)  # [add_tape_token_to_layers]
    bank: Literal["input", "learn"] = "input"  # [bank_type]
    bank_patch: int = 8  # [patch_bank_size]
    bank_stem: tuple[tuple[int, int], ...] = ()
    bank_size: int = 10000  # [tape_bank_size], learnable bank only
    query: Literal["token", "gap"] = "gap"  # [query_type]
    complex_query: bool = True
    key_split: int = 1  # [split_tt]: keys are the first dim // key_split features
    tape_mlp_dim: int = 0  # [tt_mlp_dim]
    tape_ffn_dim: int = 0  # [enc_tt_mlp_dim]
    ponder: Literal["entropy", "max"] = "entropy"  # [act_loss_type]
    ponder_weight: float = 0.01  # [act_loss_weight]
    bernoulli_p: float = 0.0
    query_noise: float = 0.0

    @property
    def reads_per_step(self) -> int:
        """K: bank entries merged into one tape token; 1 in fixed-length mode."""
        return 1 if self.halting_threshold is None else int(self.capacity // self.halting_threshold)

    def __post_init__(self) -> None:
        _check(self.capacity >= 1, "tape.capacity", self.capacity, "at least 1")
        threshold = self.halting_threshold
        if threshold is not None:
            _check(
                0 < threshold <= self.capacity,
                "tape.halting_threshold",
                threshold,
                f"above 0 to {self.capacity}, or null",
            )
        ordered = list(self.layers) == sorted(set(self.layers)) and len(self.layers) > 0 and min(self.layers) >= 0
        _check(ordered, "tape.layers", self.layers, "increasing block numbers from 0")
        _check(self.bank in ("input", "learn"), "tape.bank", self.bank, "input or learn")
        _check(self.query in ("token", "gap"), "tape.query", self.query, "token or gap")
        _check(self.ponder in ("entropy", "max"), "tape.ponder", self.ponder, "entropy or max")
        _check(0 <= self.bernoulli_p < 1, "tape.bernoulli_p", self.bernoulli_p, "0 to below 1")
        _check(self.query_noise >= 0, "tape.query_noise", self.query_noise, "0 or more")
        stem_stride = prod(stride for _, stride in self.bank_stem)
        _check(
            not self.bank_stem or stem_stride == self.bank_patch,
            "tape.bank_stem",
            self.bank_stem,
            f"strides that multiply to {self.bank_patch}",
        )


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One AdaTape model, or with `tape=None` the plain transformer it is compared with.

    `compat` reproduces the official batch-1 numbers: empty tape slots are pooled, pass through
    the tape MLP, and only the last tape layer's ponder loss counts. `symbol_tokens`, parity only, makes
    the main sequence one token a symbol, with positions, instead of one flattened token.
    """

    name: str
    num_classes: int
    dim: int
    depth: int
    num_heads: int
    mlp_dim: int
    input: Literal["image", "parity"] = "image"
    image_size: int = 224
    patch: int = 16
    seq_len: int = 0
    symbol_tokens: bool = False
    pooling: Pooling = "gap"
    has_class_token: bool = False
    tape: TapeConfig | None = None
    dropout: float = 0.0
    stochastic_depth: float = 0.0
    compat: bool = False

    @property
    def num_tokens(self) -> int:
        """S: tokens of the main sequence, the class token included."""
        patches = (self.image_size // self.patch) ** 2
        symbols = self.seq_len if self.symbol_tokens else 1
        return (patches if self.input == "image" else symbols) + self.has_class_token

    @property
    def bank_size(self) -> int:
        """M: entries in the tape bank."""
        if self.tape is None:
            return 0
        if self.tape.bank == "learn":
            return self.tape.bank_size
        return self.seq_len if self.input == "parity" else (self.image_size // self.tape.bank_patch) ** 2

    @property
    def capacity(self) -> int:
        """N: the longest tape, 0 without one."""
        return self.tape.capacity if self.tape else 0

    def __post_init__(self) -> None:
        for field in ("num_classes", "dim", "depth", "num_heads", "mlp_dim"):
            _check(getattr(self, field) >= 1, field, getattr(self, field), "at least 1")
        _check(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads={self.num_heads}")
        _check(self.input in ("image", "parity"), "input", self.input, "image or parity")
        _check(self.pooling in ("token", "gap", "gmp", "gsp"), "pooling", self.pooling, "token, gap, gmp or gsp")
        if self.input == "image":
            _check(
                self.image_size % self.patch == 0, "image_size", self.image_size, f"a multiple of patch={self.patch}"
            )
            _check(not self.symbol_tokens, "symbol_tokens", True, "false for images")
        else:
            _check(self.seq_len >= 1, "seq_len", self.seq_len, "at least 1 for the parity model")
        _check(0 <= self.dropout < 1, "dropout", self.dropout, "0 to below 1")
        _check(0 <= self.stochastic_depth < 1, "stochastic_depth", self.stochastic_depth, "0 to below 1")
        if self.tape:
            self._check_tape(self.tape)

    def _check_tape(self, tape: TapeConfig) -> None:
        _check(max(tape.layers) < self.depth, "tape.layers", tape.layers, f"block numbers below depth={self.depth}")
        _check(self.dim % tape.key_split == 0, "tape.key_split", tape.key_split, f"a divisor of dim={self.dim}")
        if self.input == "parity":
            _check(tape.bank == "input", "tape.bank", tape.bank, "input: the parity model has no other")
        elif tape.bank == "input":
            _check(
                self.image_size % tape.bank_patch == 0,
                "tape.bank_patch",
                tape.bank_patch,
                f"a divisor of image_size={self.image_size}",
            )
        may_reuse = self.compat and tape.halting_threshold is not None
        needed = tape.reads_per_step if may_reuse else tape.capacity * tape.reads_per_step
        _check(
            self.bank_size >= needed, "tape bank size", self.bank_size, f"at least {needed} (capacity * reads per step)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a config from `to_dict`'s data.

        Raises: ValueError naming any unknown key or invalid value.
        """
        tape = data.get("tape")
        return cls(**{**_known(cls, data), "tape": _tape_from_dict(tape) if tape is not None else None})


def _tape_from_dict(data: dict[str, Any]) -> TapeConfig:
    known = _known(TapeConfig, data)
    if "layers" in known:
        known["layers"] = tuple(known["layers"])
    if "bank_stem" in known:
        known["bank_stem"] = tuple((int(channels), int(stride)) for channels, stride in known["bank_stem"])
    return TapeConfig(**known)


def _known(cls: type, data: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(cls)}
    unknown = sorted(set(data) - names)
    _check(not unknown, f"{cls.__name__} keys", unknown, f"only {sorted(names)}")
    return dict(data)


def _check(is_valid: bool, what: str, got: object, expected: str) -> None:
    if not is_valid:
        raise ValueError(f"{what}; got {got}; expected {expected}")
