"""A tiny published family, and a real Triton that serves it unchanged."""

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from export.images import Pixels, decided_inputs, own_reading, scenes
from export.pipeline import Options, export_run
from loadtest.process import ROOT
from loadtest.triton import Triton, start_triton
from server.backends.ort import OrtBackend
from server.models.manifest import Manifest
from tests.adatape.models import make_model
from tests.export.conftest import BUCKETS, CONFIG, FAMILY, save_run

MAX_BATCH_SIZE = 8
PYTHON = ROOT / ".venv-triton/bin/python"
TRITON = f"{PYTHON} {ROOT}/deploy/triton/serve.py --backends {ROOT}/tests/triton/backends"


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published repository that no test may change."""
    folder = tmp_path_factory.mktemp("triton")
    run_dir = save_run(folder / "tiny", make_model(CONFIG))
    root = folder / "model_repository"
    with redirect_stdout(io.StringIO()):
        export_run(Options(run_dir, root, buckets=BUCKETS, max_batch_size=MAX_BATCH_SIZE))
    return root


@pytest.fixture(scope="session")
def manifest(repository: Path) -> Manifest:
    return Manifest.model_validate_json((repository / FAMILY / "1/manifest.json").read_bytes())


@pytest.fixture(scope="session")
def triton(repository: Path) -> Iterator[Triton]:
    """A Triton that no test may stop."""
    with start_triton(TRITON, repository) as triton:
        yield triton
        assert triton.running.is_running, triton.running.log


@pytest.fixture(scope="session")
def embedded(repository: Path, manifest: Manifest):
    """The backend of the embedded engine."""
    return OrtBackend(repository, num_threads=1).load(manifest)


@pytest.fixture(scope="session")
def images() -> Pixels:
    """Images whose reading rounding cannot change, and that want tapes of several lengths."""
    model = make_model(CONFIG)
    candidates_BHWC = decided_inputs(model, scenes, 8 * MAX_BATCH_SIZE, seed=2)
    by_length_B = own_reading(model, candidates_BHWC, None).wanted_B.argsort()
    return candidates_BHWC[by_length_B[:: len(candidates_BHWC) // MAX_BATCH_SIZE]]
