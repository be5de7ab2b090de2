"""The model under test, as its server describes it, and data for its inputs."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.conformance.expect import Failure, Skip
from loadtest.conformance.tensors import BYTES, DTYPES, Tensor

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output; `shape` includes the batch, -1 is variable."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Hints:
    """What a server cannot tell about its model.

    inputs: names of those to send, where the configuration marks all as optional. shapes: of variable dimensions,
    without the batch. data: the element of every BYTES input. options: optional inputs and the value to fill them with.
    parameters: request parameters that the model knows.
    """

    inputs: Sequence[str] = ()
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    data: Mapping[str, bytes] = field(default_factory=dict)
    options: Mapping[str, float] = field(default_factory=dict)
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """A model's ports. `max_batch_size` is None where the server does not tell, 0 where there are no batches."""

    name: str
    version: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    optional: frozenset[str] = frozenset()
    max_batch_size: int | None = None
    hints: Hints = field(default_factory=Hints)

    @classmethod
    def of(cls, metadata: Json, config: Json | None, hints: Hints) -> "Model":
        """Read a model's metadata and, where there is one, its configuration.

        Raises: Failure if the metadata cannot be used.
        """
        try:
            inputs, outputs = (tuple(map(_port, metadata[name])) for name in ("inputs", "outputs"))
            versions = [str(version) for version in metadata.get("versions") or [""]]
            name = str(metadata["name"])
        except (KeyError, TypeError, ValueError) as error:
            raise Failure(f"got model metadata {metadata!r:.200}; expected name, inputs and outputs") from error
        ports = (config or {}).get("input", [])
        optional = frozenset(port["name"] for port in ports if port.get("optional"))
        max_batch_size = None if config is None else int(config.get("max_batch_size", 0))
        return cls(name, versions[-1], inputs, outputs, optional, max_batch_size, hints)

    @property
    def has_batches(self) -> bool:
        """Say whether the first dimension is the batch."""
        if self.max_batch_size is None:
            return all(port.shape[:1] == (-1,) for port in self.inputs)
        return self.max_batch_size > 0

    @property
    def required(self) -> tuple[Port, ...]:
        """The inputs that every request carries: those named by the hints, or not optional, or else the first."""
        named = [port for port in self.inputs if port.name in self.hints.inputs]
        needed = [port for port in self.inputs if port.name not in self.optional]
        return tuple(named or needed or self.inputs[:1])

    def tensors(self, batch: int = 1, *, seed: int = 0) -> list[Tensor]:
        """Return data for the required inputs: the same for one seed, and each sample another."""
        if batch > 1 and (not self.has_batches or batch > (self.max_batch_size or batch)):
            raise Skip(f"the model takes no batch of {batch}")
        return [self._tensor(port, batch, random.Random(f"{port.name} {seed}")) for port in self.required]

    def option_tensors(self, batch: int = 1) -> list[Tensor]:
        """Return the optional inputs that the hints give a value for.

        Raises: Skip if there are none.
        """
        found = [port for port in self.inputs if port.name in self.hints.options]
        if not found:
            raise Skip("no optional input is named: --option NAME=VALUE")
        return [self._filled(port, batch, self.hints.options[port.name]) for port in found]

    def scores(self) -> Port:
        """Return the first output that can be classified: floating point, classes last.

        Raises: Skip if there is none.
        """
        fits = [port for port in self.outputs if port.datatype in {"FP32", "FP64"} and port.shape[-1:] > (1,)]
        if not fits:
            raise Skip("no output looks like scores of classes")
        return fits[0]

    def numeric(self) -> int:
        """Return the index of the first required input that is not BYTES.

        Raises: Skip if there is none.
        """
        for index, port in enumerate(self.required):
            if port.datatype != BYTES:
                return index
        raise Skip("all inputs are BYTES")

    def _shape(self, port: Port, batch: int) -> tuple[int, ...]:
        dims = port.shape[1:] if self.has_batches else port.shape
        hint = iter(self.hints.shapes.get(port.name, ()))
        inner = [next(hint, 1) if size < 0 else size for size in dims]
        return (batch, *inner) if self.has_batches else tuple(inner)

    def _tensor(self, port: Port, batch: int, rng: random.Random) -> Tensor:
        shape = self._shape(port, batch)
        return Tensor(port.name, port.datatype, shape, [self._item(port, rng) for _ in range(_count(shape))])

    def _filled(self, port: Port, batch: int, value: float) -> Tensor:
        shape = self._shape(port, batch)
        item = value if port.datatype.startswith(("FP", "BF")) else int(value)
        return Tensor(port.name, port.datatype, shape, [item] * _count(shape))

    def _item(self, port: Port, rng: random.Random) -> Any:
        if port.datatype == BYTES:
            return self.hints.data.get(port.name, b"0")
        if port.datatype == "BOOL":
            return rng.random() < 0.5
        if port.datatype.startswith("FP"):
            return rng.random()
        if port.datatype in DTYPES:
            return rng.randrange(256 if port.datatype == "UINT8" else 100)
        raise Skip(f"input {port.name} is {port.datatype}, for which this kit makes no data")


def _port(fields: Json) -> Port:
    return Port(str(fields["name"]), str(fields["datatype"]), tuple(int(size) for size in fields["shape"]))


def _count(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
