"""What a rounds model is: validated, immutable, and round-tripping through JSON."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, Self


class ClassifierConfig(Protocol):
    """What a trainer asks of a model's config."""

    @property
    def name(self) -> str: ...

    @property
    def num_classes(self) -> int: ...

    @property
    def image_size(self) -> int: ...

    @property
    def prefixes(self) -> tuple[int, ...]: ...

    def to_dict(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class RoundsConfig:
    """One rounds model: a glance, a bank of `grid` x `grid` cells, and a trunk that grows.

    `prefixes` are the tape lengths at which the model can stop; the last reads the whole bank. The glance sees the
    image at half of the bank's resolution. `glance_widths` are the channels of its five convolutions, `cell_widths`
    those of a cell's five. A round's tokens are `dim` wide and pass `depth` blocks.
    """

    name: str
    num_classes: int = 10
    image_size: int = 32
    prefixes: tuple[int, ...] = (0, 4, 16)
    grid: int = 4
    glance_widths: tuple[int, int, int, int, int] = (32, 36, 96, 128, 128)
    cell_widths: tuple[int, int, int, int, int] = (24, 40, 96, 128, 128)
    dim: int = 128
    depth: int = 3
    num_heads: int = 4
    mlp_dim: int = 256
    tape_ffn_dim: int = 192

    @property
    def num_cells(self) -> int:
        """M: entries of the bank."""
        return self.grid * self.grid

    @property
    def sizes(self) -> tuple[int, ...]:
        """Tape tokens that each round reads."""
        return tuple(later - earlier for earlier, later in zip(self.prefixes, self.prefixes[1:], strict=False))

    @property
    def cell_size(self) -> int:
        """Pixels along one side of a cell, at the bank's resolution."""
        return self.image_size // self.grid

    def __post_init__(self) -> None:
        ordered = self.prefixes[:1] == (0,) and list(self.prefixes) == sorted(set(self.prefixes))
        _check(ordered and len(self.prefixes) > 1, "prefixes", self.prefixes, "0 and increasing tape lengths")
        _check(self.prefixes[-1] == self.num_cells, "prefixes", self.prefixes, f"to end at {self.num_cells}, the bank")
        _check(self.image_size == 8 * self.grid, "image_size", self.image_size, "8 * grid pixels")
        _check(self.dim % self.num_heads == 0, "dim", self.dim, f"a multiple of num_heads={self.num_heads}")
        _check(self.num_classes >= 2, "num_classes", self.num_classes, "at least 2")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Rebuild a config from `to_dict`'s data.

        Raises: ValueError naming any unknown key or invalid value.
        """
        names = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - names)
        _check(not unknown, f"{cls.__name__} keys", unknown, f"only {sorted(names)}")
        known: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
        return cls(**known)


def _check(is_valid: bool, what: str, got: object, expected: str) -> None:
    if not is_valid:
        raise ValueError(f"{what}; got {got}; expected {expected}")
