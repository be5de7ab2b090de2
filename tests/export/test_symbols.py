"""A family of symbols: exported like one of images, described as what it is, and served over the protocol alone."""

import io
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from adatape.checkpoint import RunInfo, save_checkpoint, write_json
from adatape.config import ModelConfig, TapeConfig
from adatape.curve import SplitId, build_curve
from adatape.data import PAD
from adatape.flops import stage_flops
from adatape.transformer import spread_symbols, to_inputs
from export.card import figures
from export.images import inputs_of, strings
from export.names import Names
from export.pipeline import Options, export_run
from export.runtime import Runtime
from server.backends.ort import OrtBackend
from server.engine import build_engine
from server.errors import BackendFailed
from server.metrics import Metrics
from server.models.manifest import Manifest, Preprocessing, QualityCurve
from server.settings import Settings
from tests.adatape.models import make_model
from tests.server.surface import client_of, create_app, photo

LENGTH, FAMILY = 12, "adatape_strings"
TAPE = TapeConfig(capacity=6, halting_threshold=3.0, query="token", key_split=4, tape_ffn_dim=8)
CONFIG = ModelConfig(
    "strings", 2, 16, 2, 2, 24, input="parity", seq_len=LENGTH, pooling="token", has_class_token=True, tape=TAPE
)
MODEL = make_model(CONFIG)
INFER = f"/v2/models/{FAMILY}/infer"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "strings"
    info = RunInfo("strings", "python -m adatape.train", "0" * 40, "parity", "0" * 64, ("even", "odd"), 0, 1.0, {})
    save_checkpoint(run, MODEL, info)
    wanted_N = np.full(100, TAPE.capacity)
    correct_PN = np.ones((TAPE.capacity + 1, 100), bool)
    samples = SplitId("parity", "validation", "0" * 64)
    curve = build_curve(samples, range(TAPE.capacity + 1), correct_PN, wanted_N, stage_flops(CONFIG))
    write_json(run / "curve.json", asdict(curve))
    root = tmp_path_factory.mktemp("published") / "model_repository"
    with redirect_stdout(io.StringIO()):
        export_run(Options(run, root, family=FAMILY, buckets=(0, 3, 6), max_batch_size=2))
    return root


@pytest.fixture(scope="module")
def manifest(repository: Path) -> Manifest:
    return Manifest.model_validate_json((repository / FAMILY / "1" / "manifest.json").read_bytes())


def test_the_manifest_says_symbols(manifest: Manifest) -> None:
    assert manifest.preprocessing is None
    assert (manifest.input.name, manifest.input.dtype, manifest.input.shape) == ("symbols", "int8", (LENGTH,))
    assert (manifest.bank.rows, manifest.bank.cols, manifest.bank.patch_px) == (1, LENGTH, 0)


def test_triton_is_told_so_too(repository: Path) -> None:
    for model in (FAMILY, f"{FAMILY}_reader"):
        text = (repository / model / "config.pbtxt").read_text()
        assert f'name: "symbols"\n    data_type: TYPE_INT8\n    dims: [ {LENGTH} ]' in text
        assert "image" not in text


def test_the_card_says_what_goes_in(manifest: Manifest) -> None:
    test = QualityCurve.model_validate(manifest.quality.model_dump())
    assert "| input | `symbols`: 12 of -1, 0 and 1 |" in figures(manifest, test)


def test_graphs_answer_as_the_model_does(repository: Path) -> None:
    """The export itself has compared every output; this is what a caller sees."""
    symbols = strings(np.random.default_rng(5), 20, LENGTH)
    logits_BC, reading = Runtime(repository, Names(FAMILY, "1", (0, 3, 6))).answer(symbols, 6)
    with torch.no_grad():
        expected = MODEL(inputs_of(MODEL, symbols))
    np.testing.assert_allclose(logits_BC, expected.logits_BC.numpy(), atol=1e-3)
    assert (reading["tape_length"][:, 0] == expected.reads[0].length_B.numpy()).all()


def test_a_blank_is_what_training_saw() -> None:
    stored = torch.tensor([[0, 1, 2, PAD]])
    assert torch.equal(spread_symbols(stored.to(torch.int8) - 1), to_inputs(stored, CONFIG))
    assert spread_symbols(torch.tensor([[5]], dtype=torch.int8)).tolist() == [[[0.0, 0.0, 0.0]]]


async def test_it_is_served_over_the_protocol_alone(repository: Path) -> None:
    settings = Settings(model_repository=repository)
    metrics = Metrics()
    app = create_app(settings, build_engine(settings, metrics), metrics)
    await app.engine.start()
    symbols = strings(np.random.default_rng(7), 2, LENGTH)
    tensor = {"name": "symbols", "datatype": "INT8", "shape": [2, LENGTH], "data": symbols.ravel().tolist()}
    async with client_of(app) as client:
        answer = (await client.post(INFER, json={"inputs": [tensor]})).json()
        raw = await client.post(INFER, content=symbols[0].tobytes(), headers={"Inference-Header-Content-Length": "0"})
        image = await client.post(INFER, json={"inputs": [{**tensor, "name": "image"}]})
        empty = await client.post(INFER, json={"inputs": []})
        metadata = (await client.get(f"/v2/models/{FAMILY}")).json()
        listed = (await client.get("/v1/models")).json()["models"][0]
        refused = await client.post("/v1/classify", files={"file": photo()})
    await app.engine.drain(1.0)
    with torch.no_grad():
        expected = MODEL(inputs_of(MODEL, symbols)).logits_BC.numpy()
    outputs = {output["name"]: output["data"] for output in answer["outputs"]}
    np.testing.assert_allclose(np.reshape(outputs["logits"], (2, 2)), expected, atol=1e-3)
    assert raw.status_code == 200
    assert (image.status_code, "expected any of symbols, max_tape" in image.json()["error"]) == (400, True)
    assert empty.json()["error"] == f"inputs; got no symbols; expected INT8 [batch, {LENGTH}]"
    assert [port["name"] for port in metadata["inputs"]] == ["symbols", "max_tape"]
    assert (listed["preprocessing"], listed["symbols"]) == (None, {"length": LENGTH})
    assert refused.status_code == 400
    assert refused.json()["error"] == (
        f"model; got {FAMILY}, which takes symbols; expected a family of images; ask this one at {INFER}"
    )


def test_a_reader_of_the_other_kind_is_refused(repository: Path, manifest: Manifest) -> None:
    pixels = Preprocessing(height=4, width=4, resize="squash")
    wrong = manifest.model_copy(update={"symbols": None, "preprocessing": pixels})
    with pytest.raises(BackendFailed, match=r"inputs of graph adatape_strings_reader; got \['symbols', 'max_tape'\]"):
        OrtBackend(repository, num_threads=1).load(wrong)


def test_a_manifest_takes_one_kind_of_input(manifest: Manifest) -> None:
    with pytest.raises(ValueError, match="expected one of the two"):
        Manifest.model_validate(manifest.model_dump() | {"symbols": None})
    both = {"preprocessing": {"height": 4, "width": 4, "resize": "squash"}}
    with pytest.raises(ValueError, match="expected one of the two"):
        Manifest.model_validate(manifest.model_dump() | both)
