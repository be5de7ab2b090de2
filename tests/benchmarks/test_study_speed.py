"""The image study's models on onnxruntime answer as they do in torch, and rates are of images answered."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from adatape.baselines.act import ActConfig, ActTransformer
from adatape.baselines.avit import AVit, AvitConfig
from adatape.baselines.pondernet import PonderConfig, PonderNet
from adatape.config import ModelConfig
from adatape.configs import Preset
from adatape.model import AdaTape
from adatape.study.runs import Folders, Spec
from adatape.transformer import Transformer
from benchmarks.study_graphs import compiled, eager
from benchmarks.study_speed import Contestant, measure, trained

SMALL = ModelConfig("small", 10, 24, 2, 3, 48, image_size=16, patch=8)
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)


def roused(make: Callable[[], Transformer]) -> Transformer:
    """Make a model, always the same, and give weights to what starts at zero: answers differ, samples halt apart."""
    torch.manual_seed(0)
    model = make()
    torch.nn.init.normal_(model.head.weight)
    if isinstance(model, ActTransformer | PonderNet):
        torch.nn.init.normal_(model.halting.weight, std=2.0)
        torch.nn.init.zeros_(model.halting.bias)
    return model.eval()


@pytest.mark.parametrize(
    "make",
    [
        lambda: AdaTape(SMALL),
        lambda: ActTransformer(SMALL, ActConfig(3, shares_block=True)),
        lambda: ActTransformer(SMALL, ActConfig(2, shares_block=False)),
        lambda: PonderNet(SMALL, PonderConfig(2, shares_block=False)),
    ],
    ids=["vit", "u2t", "uvit", "pondernet"],
)
def test_graphs_answer_as_torch_does(make: Callable[[], Transformer], tmp_path: Path) -> None:
    model = roused(make)
    in_graphs = compiled(model, [], tmp_path)
    assert in_graphs is not None
    np.testing.assert_allclose(in_graphs(PIXELS), eager(model)(PIXELS), atol=1e-4)
    if isinstance(model, ActTransformer | PonderNet):
        with torch.no_grad():
            depth_B = model(torch.from_numpy(PIXELS).float() / 127.5 - 1).depth_B
        assert len(set(depth_B.tolist())) > 1, "a test in which all halt alike tests little"


def test_a_model_whose_tokens_leave_one_by_one_has_no_graphs(tmp_path: Path) -> None:
    config = replace(SMALL, has_class_token=True, pooling="token")
    assert compiled(AVit(config, AvitConfig(gate_center=3.0)), [], tmp_path) is None


def test_a_rate_counts_images_not_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer takes a second here, whatever it is about."""
    clock_s = [0.0]
    monkeypatch.setattr("benchmarks.study_speed.time.perf_counter", lambda: clock_s[0])

    def answer(image_BHWC: np.ndarray) -> np.ndarray:
        clock_s[0] += 1
        return np.zeros((len(image_BHWC), 10), np.float32)

    (figure,) = measure(
        [Contestant("any", 0, "torch", answer)], np.resize(PIXELS, (64, 16, 16, 3)), rounds=2, seconds=3
    )
    assert {batch: one["median"] for batch, one in figure["images_per_s"].items()} == {"1": 1, "32": 32}


def test_a_model_is_measured_once_and_only_when_its_run_is_whole(tmp_path: Path) -> None:
    folders = Folders(tmp_path / "states", tmp_path / "results")
    chosen = Preset(SMALL)
    specs = [Spec("images", "models", name, seed, "digits", chosen, ActTransformer) for seed in (0, 1) for name in "ab"]  # type: ignore[arg-type]
    for spec in specs[1:]:
        folders.state_of(spec).mkdir(parents=True)
        (folders.state_of(spec) / "state.safetensors").touch()
        folders.result_of(spec).parent.mkdir(parents=True, exist_ok=True)
        folders.result_of(spec).touch()
    assert [(spec.variant, spec.seed) for spec in trained(specs, folders)] == [("b", 0), ("a", 1)]
    fixed = Spec("images", "models", "vit", 0, "digits", chosen, AdaTape)
    assert list(trained([fixed], folders)) == [fixed], "what always costs the same needs no training"
