"""One tiny run with every part that a family can have, exported once for all tests."""

import io
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from adatape.checkpoint import RunInfo, save_checkpoint, write_json
from adatape.config import ModelConfig, TapeConfig
from adatape.curve import SplitId, build_curve
from adatape.data import open_source
from adatape.flops import stage_flops
from adatape.model import AdaTape
from export.names import Names
from export.pipeline import Options, export_run
from export.precision import Graphs
from export.run import Run, open_run
from export.runtime import Runtime
from tests.adatape.models import make_model

STEM = ((4, 1), (6, 2), (8, 2))
TAPE = TapeConfig(
    capacity=4, halting_threshold=2.0, bank_patch=4, bank_stem=STEM, key_split=2, tape_mlp_dim=12, tape_ffn_dim=12
)
CONFIG = ModelConfig("tiny", 10, 16, 3, 2, 24, image_size=16, patch=8, tape=TAPE)
BUCKETS = (0, 2, 4)
HISTOGRAM = (0, 0, 50, 70, 24)
FAMILY = "adatape_tiny"


def save_run(folder: Path, model: AdaTape) -> Path:
    """Save a run folder as training and evaluation leave it; the figures of its curve are made up."""
    config, data = model.config, open_source("digits", image_size=CONFIG.image_size)
    command = "python -m adatape.train --data /home/someone/digits.npz --out ../elsewhere/tiny"
    recipe = {"validation_share": 0.1}
    info = RunInfo("tiny", command, "0" * 40, "digits", data.digest, data.class_names, 0, 1.0, recipe)
    save_checkpoint(folder, model, info)
    wanted_N = np.repeat(np.arange(len(HISTOGRAM)), HISTOGRAM)
    caps = range(config.capacity + 1)
    correct_PN = np.random.default_rng(0).random((len(caps), len(wanted_N))) < 0.8
    samples = SplitId("digits", "validation", data.validation.digest)
    if config.tape:
        write_json(folder / "curve.json", asdict(build_curve(samples, caps, correct_PN, wanted_N, stage_flops(config))))
    return folder


@pytest.fixture(scope="session")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_run(tmp_path_factory.mktemp("runs") / "tiny", make_model(CONFIG))


@pytest.fixture(scope="session")
def run(run_dir: Path) -> Run:
    return open_run(run_dir)


@pytest.fixture(scope="session")
def options(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Options:
    root = tmp_path_factory.mktemp("published") / "model_repository"
    return Options(run_dir, root, buckets=BUCKETS, max_batch_size=2)


@pytest.fixture(scope="session")
def told(options: Options) -> str:
    """What an export says; the repository is then published."""
    with redirect_stdout(io.StringIO()) as out:
        export_run(options)
    return out.getvalue()


@pytest.fixture(scope="session")
def repository(options: Options, told: str) -> Path:
    """A published repository that no test may change."""
    assert told
    return options.repository


@pytest.fixture(scope="session")
def names() -> Names:
    return Names(FAMILY, "1", BUCKETS)


@pytest.fixture(scope="session")
def graphs(repository: Path, names: Names) -> Graphs:
    """The published graphs with their weights inside, as they were before they were written."""
    return {model: onnx.load(repository / names.path(model)) for model in names.graphs}


@pytest.fixture(scope="session")
def runtime(repository: Path, names: Names) -> Runtime:
    return Runtime(repository, names)


def with_tape(config: ModelConfig = CONFIG, **changes: object) -> ModelConfig:
    return replace(config, tape=replace(config.tape, **changes))
