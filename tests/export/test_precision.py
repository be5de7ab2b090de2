"""Lower precision: the trunks only, with a curve of their own, and still one answer whatever batch and bucket."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from adatape.data import open_source
from export.errors import ExportError
from export.names import Names
from export.pipeline import Options, export_run, write_graphs
from export.precision import TRUNK_TOLERANCE, Graphs, calibration_images, fp16_trunks, int8_trunks
from export.quality import curve_table, measure_quality
from export.run import Run
from export.runtime import Runtime
from export.verify import verify
from server.models.manifest import Manifest
from tests.export.conftest import CONFIG, TAPE

DIGITS = open_source("digits", image_size=CONFIG.image_size)


def trunks_of(graphs: Graphs, names: Names) -> Graphs:
    return {name: graphs[name] for name in names.trunks}


@pytest.fixture(scope="module", params=["fp16", "int8"])
def lowered(request, graphs: Graphs, names: Names, runtime: Runtime, tmp_path_factory) -> tuple[str, Runtime]:
    trunks = trunks_of(graphs, names)
    if request.param == "fp16":
        trunks = fp16_trunks(trunks)
    else:
        trunks = int8_trunks(trunks, names, runtime, calibration_images(DIGITS.train.x, 64))
    root = tmp_path_factory.mktemp(request.param)
    write_graphs(root, names, {**graphs, **trunks})
    return request.param, Runtime(root, names)


def test_lowered_trunks_are_close_and_indifferent_to_batch_and_bucket(run: Run, lowered):
    precision, runtime = lowered
    checks = verify(run.model, runtime, trunk_tolerance=TRUNK_TOLERANCE[precision])
    trunk_errors = [check.error for check in checks if check.output == "logits"]
    assert max(trunk_errors) > 1e-4  # or nothing was lowered
    reader_errors = [check.error for check in checks if check.graph == runtime.names.reader]
    assert max(reader_errors) <= 1e-4


def test_weights_are_stored_in_the_lower_precision(lowered, names: Names, repository: Path):
    precision, runtime = lowered
    root = Path(runtime.root)
    full = (repository / names.path(names.trunk, "weights.bin")).stat().st_size
    low = (root / names.path(names.trunk, "weights.bin")).stat().st_size
    assert low < full * {"fp16": 0.6, "int8": 0.65}[precision]
    assert len({(root / names.path(model, "weights.bin")).read_bytes() for model in names.trunks}) == 1


def test_an_answer_keeps_its_bits_among_others(lowered):
    precision, runtime = lowered
    images = DIGITS.validation.x[:12]
    together, _ = runtime.answer(images, TAPE.capacity)
    alone = np.concatenate([runtime.answer(images[row : row + 1], TAPE.capacity)[0] for row in range(12)])
    np.testing.assert_allclose(together, alone, atol={"fp16": 5e-3, "int8": 0.1}[precision])


def test_own_curve_is_measured_on_the_graphs(run: Run, lowered):
    _, runtime = lowered
    curve = measure_quality(run, runtime, DIGITS.validation)
    images, labels = DIGITS.validation.x, DIGITS.validation.y
    assert curve.num_samples == len(labels)
    for point in curve.points:
        logits_BC, reading = runtime.answer(images, point.cap)
        assert point.accuracy == pytest.approx((logits_BC.argmax(1) == labels).mean())
        assert point.mean_tape_length == pytest.approx(reading["tape_length"].mean())
    assert "quality of the graphs on digits validation, 144 samples" in curve_table(curve, run.curve)


def test_a_bucket_with_other_products_than_were_calibrated_is_refused(graphs: Graphs, names: Names, runtime: Runtime):
    odd = onnx.ModelProto()
    odd.CopyFrom(graphs[names.static(2)])
    product = next(node for node in odd.graph.node if node.op_type == "Gemm")
    weight = next(tensor for tensor in odd.graph.initializer if tensor.name == product.input[1])
    weight.raw_data = bytes(len(weight.raw_data))
    with pytest.raises(ExportError, match=rf"int8 adatape_tiny_trunk_t02; got products \['{product.name}'\]"):
        int8_trunks({**trunks_of(graphs, names), names.static(2): odd}, names, runtime, DIGITS.train.x[:8])


def test_calibration_images_repeat():
    first, second = (calibration_images(DIGITS.train.x, 8) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert len(calibration_images(DIGITS.train.x[:5], 8)) == 5


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_published_with_its_own_curve(options: Options, tmp_path: Path, precision: str):
    place = export_run(replace(options, repository=tmp_path / "repository", precision=precision, data="digits"))
    manifest = Manifest.model_validate_json((place / "manifest.json").read_bytes())
    assert (manifest.family, manifest.precision) == (f"adatape_tiny_{precision}", precision)
    assert manifest.quality.num_samples == len(DIGITS.validation)
