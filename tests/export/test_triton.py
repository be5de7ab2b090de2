"""Every config.pbtxt is one that Triton's own schema reads, and says what its graph takes and gives."""

import onnxruntime
import pytest
from google.protobuf import text_format

from export.triton import model_files
from tests.export.conftest import BUCKETS, CONFIG, FAMILY, TAPE

TYPES = {"tensor(float)": "TYPE_FP32", "tensor(int32)": "TYPE_INT32", "tensor(uint8)": "TYPE_UINT8"}


def parsed(text: str):
    schema = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    return schema, text_format.Parse(text, schema.ModelConfig())


def ports(schema, listed) -> dict[str, tuple[str, list[int]]]:
    return {port.name: (schema.DataType.Name(port.data_type), list(port.dims)) for port in listed}


def test_graphs_have_the_ports_that_their_config_says(repository, names):
    for model in names.graphs:
        schema, config = parsed((repository / model / "config.pbtxt").read_text())
        assert (config.name, config.backend, config.max_batch_size) == (model, "onnxruntime", 2)
        session = onnxruntime.InferenceSession(repository / names.path(model), providers=["CPUExecutionProvider"])
        for told, real in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            sizes = {port.name: [-1 if isinstance(dim, str) else dim for dim in port.shape[1:]] for port in real}
            assert ports(schema, told) == {port.name: (TYPES[port.type], sizes[port.name]) for port in real}


def test_no_dimension_is_empty_for_triton_has_none(names):
    for file in model_files(names, CONFIG, TAPE, 64).values():
        _, config = parsed(file.text)
        assert all(dim != 0 for port in (*config.input, *config.output) for dim in port.dims)


def test_the_router_takes_an_optional_cap_and_labels_its_answers(repository):
    schema, config = parsed((repository / FAMILY / "config.pbtxt").read_text())
    side = CONFIG.image_size
    assert (config.backend, config.max_batch_size) == ("python", 2)
    assert ports(schema, config.input) == {"image": ("TYPE_UINT8", [side, side, 3]), "max_tape": ("TYPE_INT32", [1])}
    assert [port.optional for port in config.input] == [False, True]
    assert ports(schema, config.output) == {
        "logits": ("TYPE_FP32", [10]),
        "probabilities": ("TYPE_FP32", [10]),
        "tape_length": ("TYPE_INT32", [1]),
        "tape_length_wanted": ("TYPE_INT32", [1]),
        "flops": ("TYPE_INT64", [1]),
    }
    assert [port.label_filename for port in config.output][:2] == ["labels.txt", "labels.txt"]
    assert (repository / FAMILY / "labels.txt").read_text() == "".join(f"{digit}\n" for digit in range(10))


def test_all_models_batch_and_run_wherever_there_is_a_device(names):
    files = model_files(names, CONFIG, TAPE, 64)
    assert len(files) == len(BUCKETS) + 3
    for model, file in files.items():
        _, config = parsed(file.text)
        assert config.HasField("dynamic_batching")
        assert len(config.instance_group) == (1 if model == FAMILY else 0)


def test_signature_ends_at_the_first_blank_line(names):
    for file in model_files(names, CONFIG, TAPE, 64).values():
        assert file.text.partition("\n\n")[0] == file.signature.rstrip("\n")
