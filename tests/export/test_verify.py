"""Verification finds what is wrong and says where; it asks for exactness only where there can be any."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from adatape.model import AdaTape
from export.errors import ExportError
from export.images import MIN_MARGIN, decided_inputs, margins, noise, own_reading, scenes
from export.names import Names
from export.run import Run
from export.runtime import Runtime
from export.verify import BATCHES, Mismatch, difference, summary, verify
from tests.adatape.models import make_model
from tests.export.conftest import BUCKETS, CONFIG


def test_published_graphs_pass_at_every_batch_and_cap(run: Run, runtime: Runtime, names: Names):
    checks = verify(run.model, runtime)
    assert {check.batch for check in checks} == set(BATCHES)
    assert {check.graph for check in checks} == {*names.graphs, names.family}
    assert {check.case for check in checks} >= {f"scenes, cap {cap}" for cap in range(CONFIG.capacity + 1)}
    assert f"verified: {len(checks)} comparisons" in summary(checks)


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(repository, tmp_path / "copy"))


def scale_weights(path: Path, factor: float) -> None:
    weights = np.fromfile(path, np.float32)
    (weights * np.float32(factor)).tofile(path)


def test_changed_weights_of_one_bucket_are_found(run: Run, copy: Path, names: Names):
    scale_weights(copy / names.path(names.static(2), "weights.bin"), 1.01)
    with pytest.raises(Mismatch) as caught:
        verify(run.model, Runtime(copy, names))
    assert {check.graph for check in caught.value.failed} == {names.static(2), names.family}
    assert f"{names.static(2)} logits (noise, bucket 2, batch 1); got error " in str(caught.value)
    assert "; expected at most 0.0001" in str(caught.value)


def test_a_reader_that_halts_elsewhere_is_found(run: Run, copy: Path, names: Names):
    path = copy / names.path(names.reader)
    graph = onnx.load(path)
    (branch,) = [node for node in graph.graph.node if node.op_type == "If"]
    weights = [tensor for attribute in branch.attribute for tensor in attribute.g.initializer]
    thresholds = [tensor for tensor in weights if not tensor.dims and numpy_helper.to_array(tensor) == 2.0]
    for tensor in thresholds:
        tensor.CopyFrom(numpy_helper.from_array(np.float32(1.2), tensor.name))
    assert thresholds
    onnx.save(graph, path)
    with pytest.raises(Mismatch) as caught:
        verify(run.model, Runtime(copy, names))
    assert (names.reader, "tape_length_wanted") in {(check.graph, check.output) for check in caught.value.failed}


def test_a_lower_precision_may_be_allowed_more_but_only_in_trunks(run: Run, copy: Path, names: Names):
    for model in names.trunks:
        scale_weights(copy / names.path(model, "weights.bin"), 1.0001)
    with pytest.raises(Mismatch):
        verify(run.model, Runtime(copy, names))
    assert verify(run.model, Runtime(copy, names), trunk_tolerance=0.5)


def test_a_reading_that_is_a_toss_up_is_refused():
    model = make_model(CONFIG)
    with torch.no_grad():
        model.readers[0].norm.weight.zero_()
    with pytest.raises(ExportError, match=r"got 0 of 64 noise inputs with a margin above 0.001"):
        decided_inputs(model, noise, 1, seed=0)


def test_margin_is_what_it_takes_to_change_a_decision():
    model = make_model(CONFIG)
    images = scenes(np.random.default_rng(3), 24, CONFIG.image_size)
    margin_B = margins(model, images)
    assert (margin_B > MIN_MARGIN).float().mean() > 0.5
    assert (margin_B < 1.0).all()
    images = images[(margin_B > 0.01).numpy()]
    with torch.no_grad():
        before = own_reading(model, images, None)
        model.embedding.bias += 1e-5
        after = own_reading(model, images, None)
    assert torch.equal(before.picks_BNK, after.picks_BNK)


@pytest.mark.parametrize("maker", [noise, scenes])
def test_images_are_pixels_and_repeat(maker):
    model = make_model(CONFIG)
    first, second = (decided_inputs(model, maker, 3, seed=1) for _ in range(2))
    assert first.shape == (3, CONFIG.image_size, CONFIG.image_size, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "found",
    [np.zeros(3, np.float32), np.zeros(2, np.float64), np.array([0, np.nan], np.float32)],
    ids=["shape", "type", "nan"],
)
def test_what_cannot_be_compared_differs_without_bound(found):
    assert difference(np.zeros(2, np.float32), found) == float("inf")


def test_buckets_are_chosen_as_the_server_chooses():
    assert [Names("f", "1", BUCKETS).bucket_for(length) for length in range(5)] == [0, 2, 2, 4, 4]


def test_model_is_left_as_it_was(run: Run, run_dir: Path, runtime: Runtime):
    from export.run import open_run

    assert isinstance(run.model, AdaTape)
    fresh = open_run(run_dir).model.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in run.model.state_dict().items())
