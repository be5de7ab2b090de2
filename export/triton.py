"""The `config.pbtxt` of each model of a family, as Triton reads it.

A file has two parts: the signature, which must stay true to the graphs, and below it how to run it
(batching, instances, versions), which an operator may edit: publishing a new version keeps the edits.
"""

from dataclasses import dataclass

from adatape.config import ModelConfig, TapeConfig
from export.names import LABELS, Names


@dataclass(frozen=True, slots=True)
class Port:
    """One input or output; `dims` leave out the batch, -1 is variable."""

    name: str
    data_type: str
    dims: tuple[int, ...]
    is_optional: bool = False
    has_labels: bool = False

    def __str__(self) -> str:
        lines = [
            f'name: "{self.name}"',
            f"data_type: TYPE_{self.data_type}",
            f"dims: [ {', '.join(map(str, self.dims))} ]",
        ]
        lines += ["optional: true"] if self.is_optional else []
        lines += [f'label_filename: "{LABELS}"'] if self.has_labels else []
        return "  {\n" + "".join(f"    {line}\n" for line in lines) + "  }"


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A config.pbtxt in its two parts."""

    signature: str
    operation: str

    @property
    def text(self) -> str:
        return f"{self.signature}\n{self.operation}"


GRAPH_OPERATION = """\
dynamic_batching { }
version_policy { latest { num_versions: 2 } }
"""
"""Two versions, so that requests which the previous router began still find its graphs."""

ROUTER_OPERATION = """\
dynamic_batching { }
instance_group [ { kind: KIND_CPU, count: 2 } ]
"""
"""Two instances: one batch is read while another runs its trunks."""


def model_files(names: Names, config: ModelConfig, tape: TapeConfig, max_batch_size: int) -> dict[str, ModelFile]:
    """Return the config of every model of a family by its name."""
    direct = (
        Port("image", "UINT8", (config.image_size, config.image_size, 3))
        if config.input == "image"
        else Port("symbols", "INT8", (config.seq_len,))
    )
    cap = Port("max_tape", "INT32", (1,))
    hidden = Port("hidden", "FP32", (config.num_tokens, config.dim))
    length = Port("tape_length", "INT32", (1,))
    wanted = Port("tape_length_wanted", "INT32", (1,))
    logits = Port("logits", "FP32", (config.num_classes,))
    slots = (tape.capacity, tape.reads_per_step)
    reading = [
        hidden,
        Port("tape", "FP32", (tape.capacity, config.dim)),
        length,
        wanted,
        Port("picks", "INT32", slots),
        Port("pick_weights", "FP32", slots),
    ]

    def graph(name: str, inputs: list[Port], outputs: list[Port]) -> ModelFile:
        return ModelFile(_signature(name, "onnxruntime", max_batch_size, inputs, outputs), GRAPH_OPERATION)

    def trunk(name: str, bucket: int) -> ModelFile:
        tape_inputs = [Port("tape", "FP32", (bucket, config.dim)), length] if bucket else []
        return graph(name, [hidden, *tape_inputs], [logits])

    classes = (config.num_classes,)
    answer = [
        Port("logits", "FP32", classes, has_labels=True),
        Port("probabilities", "FP32", classes, has_labels=True),
        length,
        wanted,
        Port("flops", "INT64", (1,)),
    ]
    asked = [direct, Port("max_tape", "INT32", (1,), is_optional=True)]
    router = ModelFile(_signature(names.family, "python", max_batch_size, asked, answer), ROUTER_OPERATION)
    return {
        names.family: router,
        names.reader: graph(names.reader, [direct, cap], reading),
        names.trunk: trunk(names.trunk, -1),
        **{names.static(bucket): trunk(names.static(bucket), bucket) for bucket in names.buckets},
    }


def _signature(name: str, backend: str, max_batch_size: int, inputs: list[Port], outputs: list[Port]) -> str:
    return (
        f'name: "{name}"\n'
        f'backend: "{backend}"\n'
        f"max_batch_size: {max_batch_size}\n"
        f"input [\n{_listed(inputs)}\n]\n"
        f"output [\n{_listed(outputs)}\n]\n"
    )


def _listed(ports: list[Port]) -> str:
    return ",\n".join(map(str, ports))
