"""The command for GPUs, with the fake family in the GPU's place."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from benchmarks.gpu import Found, check, time_all, to_report
from server.backends.fake import BUCKETS, MAX_BATCH_SIZE, FakeModel, fake_manifest
from server.backends.ort import is_cuda_offered

MANIFEST = fake_manifest()
IMAGES = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), np.uint8)


class Wrong(FakeModel):
    """A device that adds up wrongly."""

    def run_trunk(self, hidden_BSD, tape_BTD, tape_length_B1):
        logits_BC = super().run_trunk(hidden_BSD, tape_BTD, tape_length_B1)
        return logits_BC[:, ::-1] + np.float32(0.5)


def found(model: FakeModel) -> Found:
    seen = Found("fp32")
    for records in (True, False):
        check(seen, model, FakeModel(), MANIFEST, IMAGES)
        seen.spent_s[records] = time_all(model, MANIFEST, IMAGES, seconds=0.0)
    return seen


def test_equal_answers_meet_the_aims_and_every_case_is_timed() -> None:
    report = to_report(MANIFEST, [found(FakeModel())], ["a note"])
    assert [aim.is_met for aim in report.aims][:3] == [True] * 3
    assert len(report.rows) == 2 * (len(BUCKETS) + 2), "batches of 1 and 8: larger ones exceed the family's"
    assert {row["batch"] for row in report.rows} == {1, 8}
    assert gpu.BATCHES[2] > MAX_BATCH_SIZE


def test_wrong_answers_miss_them() -> None:
    aims = to_report(MANIFEST, [found(Wrong())], []).aims
    assert [aim.is_met for aim in aims][:3] == [False, True, False]
    assert aims[0].value > 0.5


@pytest.mark.skipif(is_cuda_offered(), reason="this onnxruntime offers CUDA")
def test_without_a_gpu_nothing_is_measured(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    options = argparse.Namespace(on_cpu=False, device=0)
    with pytest.raises(SystemExit) as ended:
        gpu.load(options, tmp_path, MANIFEST, records=True)
    assert ended.value.code == gpu.NO_GPU
    assert "expected onnxruntime-gpu: nothing was measured" in capsys.readouterr().err


def test_other_precisions_are_refused(tmp_path: Path) -> None:
    int8 = MANIFEST.model_copy(update={"precision": "int8"})
    with pytest.raises(SystemExit, match="got precision int8"), gpu.variants(tmp_path, int8):
        pass


def test_without_what_converts_there_is_no_half(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with gpu.variants(tmp_path, MANIFEST) as places:
        assert [precision for precision, _, _ in places] == ["fp32"]
