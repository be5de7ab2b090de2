"""The fake backend misbehaves exactly as its plan says, and only for images that are marked."""

import os
import signal

import numpy as np
import pytest

from server.backends import faults
from server.backends.fake import SIDE_PX, FakeBackend, FakeModel, fake_manifest
from server.backends.faults import MARK, MARKS, FaultPlan, FaultyModel
from server.errors import BackendFailed, OutOfMemory
from server.settings import Settings

EVERYTHING = ",".join(MARKS)


def images(*kinds):
    """Return a batch with one image for each kind; one of kind None is sound."""
    batch = np.full((len(kinds), SIDE_PX, SIDE_PX, 3), 100, np.uint8)
    for row, kind in enumerate(kinds):
        if kind is not None:
            batch[row, 0, 0] = (*MARK, MARKS[kind])
    return batch


def answer(model, batch):
    reading = model.read(batch, np.full((len(batch), 1), 16, np.int32))
    return model.run_trunk(reading.hidden_BSD, reading.tape_BND, reading.tape_length_B1)


def model(plan):
    return FakeBackend(plan).load(fake_manifest())


def test_without_a_plan_there_is_no_fault():
    assert isinstance(model(""), FakeModel)


def test_sound_images_are_answered_as_ever():
    batch = images(None, None)
    assert np.array_equal(answer(model(EVERYTHING), batch), answer(FakeModel(), batch))


def test_a_mark_that_the_plan_leaves_out_does_nothing():
    batch = images("raise", "nan", "shape", "crash", "hang")
    assert np.array_equal(answer(model("oom=9"), batch), answer(FakeModel(), batch))


def test_raise():
    with pytest.raises(RuntimeError):
        answer(model("raise"), images(None, "raise"))


def test_nan_is_the_marked_images_alone():
    logits = answer(model("nan"), images(None, "nan", None))
    assert np.isnan(logits).all(axis=1).tolist() == [False, True, False]


def test_shape():
    assert len(answer(model("shape"), images(None, "shape"))) == 1


def test_hang(monkeypatch):
    monkeypatch.setattr(faults, "HANG_S", 0)
    with pytest.raises(BackendFailed):
        answer(model("hang"), images("hang"))


def test_crash(monkeypatch):
    killed = []
    monkeypatch.setattr(os, "kill", lambda *who: killed.append(who))
    answer(model("crash"), images("crash"))
    assert killed == [(os.getpid(), signal.SIGKILL)]


def test_out_of_memory_beyond_a_batch_size():
    with pytest.raises(OutOfMemory, match="3 images; expected at most 2"):
        answer(model("oom=2"), images(None, None, None))
    assert len(answer(model("oom=2"), images(None, None))) == 2


def test_slow(monkeypatch):
    naps = []
    monkeypatch.setattr(faults.time, "sleep", naps.append)
    answer(model("slow=0.25"), images(None))
    assert naps == [0.25, 0.25]


def test_a_plan_is_read():
    assert FaultPlan.parse("nan,oom=8,slow=0.5") == FaultPlan(frozenset({"nan"}), 8, 0.5)
    assert isinstance(FaultyModel(FakeModel(), FaultPlan()).device, str)


@pytest.mark.parametrize("plan", ["panic", "raise,", "oom=0", "slow=", "raise nan"])
def test_a_plan_that_cannot_be_read_is_refused(plan):
    with pytest.raises(ValueError, match="fake_faults"):
        Settings(backend="fake", fake_faults=plan)


def test_only_the_fake_backend_takes_a_plan():
    with pytest.raises(ValueError, match="expected backend fake"):
        Settings(backend="ort", fake_faults="raise")
