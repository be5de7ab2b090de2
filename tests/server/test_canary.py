"""Labels, shares and trials: who answers, and when a canary is sent back."""

import asyncio
import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from server.backends.fake import FAMILY, FakeModel, fake_manifest
from server.engine import Engine
from server.engine.canary import MIN_FAILED, Trial
from server.engine.statuses import Standing
from server.errors import BackendFailed, BadRequest, ModelNotReady
from server.metrics import Metrics
from server.models.repository import VERDICT, Repository
from server.settings import Settings
from tests.server.models.test_repository import edit_manifest, write_family
from tests.server.simulation import SimulatedInstances, World, images, simulate


class Failing(FakeModel):
    """Gives NaN for whatever it is asked, once it serves."""

    is_well = True

    def run_trunk(self, hidden_BSD, tape_BTD, tape_length_B1):
        logits_BC = super().run_trunk(hidden_BSD, tape_BTD, tape_length_B1)
        return logits_BC if self.is_well else np.full_like(logits_BC, np.nan)


class Backend:
    """Remembers the model of each version."""

    def __init__(self) -> None:
        self.models: dict[str, Failing] = {}

    def load(self, manifest):
        self.models[manifest.version] = Failing()
        return self.models[manifest.version]


def label(root, **labels) -> None:
    (root / FAMILY / "labels.json").write_text(json.dumps(labels))


def play(root, scenario):
    """Run a scenario, a coroutine function of a world and its backend, over a repository on disk."""

    async def main():
        metrics, instances, backend = Metrics(), SimulatedInstances(), Backend()
        clock = asyncio.get_running_loop().time
        engine = Engine(Repository(root), backend, metrics, Settings(backend="fake"), instances=instances, clock=clock)
        await engine.start()
        world = World(engine, metrics, instances)
        await scenario(world, backend)
        await engine.drain(1)

    simulate(main())


@pytest.fixture
def root(tmp_path):
    for version in ("1", "2"):
        write_family(tmp_path, version=version)
    return tmp_path


async def versions_of(world, count: int) -> list[str]:
    return [(await world.infer(images(100))).version for _ in range(count)]


def test_without_labels_the_newest_answers(root):
    async def scenario(world, _):
        assert set(await versions_of(world, 5)) == {"2"}

    play(root, scenario)


def test_the_stable_label_picks_the_version_and_takes_it_back(root):
    label(root, stable="1")

    async def scenario(world, _):
        assert set(await versions_of(world, 5)) == {"1"}
        label(root, stable="2")
        await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 5)) == {"2"}
        label(root, stable="1")
        await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 5)) == {"1"}

    play(root, scenario)


def test_a_canary_answers_its_share(root):
    label(root, canary="2", canary_share=0.25)

    async def scenario(world, _):
        found = await versions_of(world, 400)
        assert 70 < found.count("2") < 130
        assert found.count("1") + found.count("2") == 400
        shelf = world.engine.shelf
        assert [shelf.find(FAMILY, name).manifest.version for name in ("stable", "canary", "1", "2")] == list("1212")
        assert [(each.version, each.standing) for each in shelf.statuses()] == [("1", "READY"), ("2", "READY")]

    play(root, scenario)


def test_a_canary_that_fails_is_sent_back_and_stays_out_until_its_labels_change(root):
    label(root, canary="2", canary_share=0.5)

    async def scenario(world, backend):
        backend.models["2"].is_well = False
        outcomes = [await settle(world) for _ in range(60)]
        assert outcomes.count("failed") == MIN_FAILED
        assert set(outcomes[-20:]) == {"1"}
        assert world.value("adatape_canary_rollbacks_total", model=FAMILY) == 1
        (status,) = [each for each in world.engine.shelf.statuses() if each.version == "2"]
        assert status.standing is Standing.UNAVAILABLE
        assert "100.0% of its requests fail" in status.reason
        await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 20)) == {"1"}
        label(root, canary="2", canary_share=0.4)
        await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 20)) == {"1", "2"}

    play(root, scenario)


def send_back(root) -> None:
    """Run a server until it sends its canary back, and stop it."""

    async def scenario(world, backend):
        backend.models["2"].is_well = False
        assert "failed" in [await settle(world) for _ in range(60)]

    label(root, canary="2", canary_share=0.5)
    play(root, scenario)


def test_a_canary_that_was_sent_back_stays_out_after_a_restart(root):
    async def scenario(world, backend):
        assert set(await versions_of(world, 40)) == {"1"}
        assert list(backend.models) == ["1"], "it is not even loaded"
        (status,) = [each for each in world.engine.shelf.statuses() if each.version == "2"]
        assert "sent back as a canary: 100.0% of its requests fail" in status.reason
        await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 40)) == {"1"}

    send_back(root)
    play(root, scenario)


def change_labels(root) -> None:
    label(root, canary="2", canary_share=0.4)


def take_the_verdict_away(root) -> None:
    (root / FAMILY / VERDICT).unlink()


def damage_the_verdict(root) -> None:
    (root / FAMILY / VERDICT).write_text("{")


def publish_another_build(root) -> None:
    edit_manifest(root / FAMILY / "2", lambda manifest: manifest["source"].update(run="another"))


@pytest.mark.parametrize(
    "ask", [change_labels, take_the_verdict_away, damage_the_verdict, publish_another_build], ids=lambda f: f.__name__
)
def test_an_operator_gets_another_trial(root, ask):
    async def at_a_start(world, _):
        assert set(await versions_of(world, 40)) == {"1", "2"}

    async def at_a_load(world, _):
        ask(root)
        await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 40)) == {"1", "2"}
        assert [each.standing for each in world.engine.shelf.statuses()] == [Standing.READY] * 2

    send_back(root)
    play(root, at_a_load)
    play(root, at_a_start)


def test_a_verdict_that_the_disk_does_not_take_holds_while_the_server_lives(root, monkeypatch, caplog):
    async def scenario(world, backend):
        backend.models["2"].is_well = False
        assert "failed" in [await settle(world) for _ in range(60)]
        await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 20)) == {"1"}
        label(root, canary="2", canary_share=0.4)
        await world.engine.shelf.load(FAMILY)
        backend.models["2"].is_well = True
        assert set(await versions_of(world, 20)) == {"1", "2"}

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    label(root, canary="2", canary_share=0.5)
    monkeypatch.setattr(Path, "replace", fail)
    play(root, scenario)
    assert "canary_verdict_not_kept model=adatape_fake reason='No space left on device'" in caplog.text
    assert not (root / FAMILY / VERDICT).exists()


async def settle(world) -> str:
    try:
        return (await world.infer(images(100))).version
    except BackendFailed:
        return "failed"


def test_a_canary_becomes_stable_without_an_error(root):
    label(root, canary="2", canary_share=0.5)

    async def scenario(world, backend):
        asking = [asyncio.create_task(world.infer(images(100))) for _ in range(50)]
        await asyncio.sleep(0)
        label(root, stable="2")
        await world.engine.shelf.load(FAMILY)
        await asyncio.gather(*asking)
        assert set(await versions_of(world, 10)) == {"2"}
        assert world.engine.shelf.trials.by_model == {}
        assert world.value("adatape_model_info", model=FAMILY, version="2", precision="fp32", device=FakeModel.device)

    play(root, scenario)


def test_unloading_ends_the_trial(root):
    label(root, canary="2", canary_share=1)

    async def scenario(world, _):
        await world.engine.shelf.unload(FAMILY)
        with pytest.raises(ModelNotReady):
            await world.infer(images(100))
        assert world.engine.shelf.trials.by_model == {}

    play(root, scenario)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "labels of adatape_fake; got manifest.json"),
        ('{"stabel": "1"}', "stabel"),
        ('{"canary_share": 2}', "canary_share"),
    ],
)
def test_labels_that_cannot_be_read_are_refused_and_what_is_loaded_serves_on(root, text, reason):
    async def scenario(world, _):
        (root / FAMILY / "labels.json").write_text(text)
        with pytest.raises(ModelNotReady, match=reason):
            await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 3)) == {"2"}

    play(root, scenario)


def test_a_canary_that_callers_could_tell_apart_is_refused(root):
    edit_manifest(root / FAMILY / "2", lambda manifest: manifest["labels"].reverse())

    async def scenario(world, _):
        label(root, stable="1", canary="2")
        with pytest.raises(ModelNotReady, match="another labels than version 1"):
            await world.engine.shelf.load(FAMILY)
        assert set(await versions_of(world, 3)) == {"1"}

    label(root, stable="1")
    play(root, scenario)


class Side:
    """One side of a trial, without an engine."""

    def __init__(self, agreements=()) -> None:
        self.guard = type("Guard", (), {"agreements": dict(enumerate(agreements))})() if agreements else None


def judge(mine, theirs, *, failed=(0, 0), answered=(100, 100)) -> list[str]:
    told: list[str] = []
    trial = Trial(mine, theirs, 0.5, told.append)
    for side, num_failed, num_answered in zip((mine, theirs), failed, answered, strict=True):
        for _ in range(num_answered):
            trial.settled(side, None)
        for _ in range(num_failed):
            trial.settled(side, BackendFailed("x"))
    return told


def test_a_canary_that_fails_no_more_than_the_stable_version_stays():
    assert judge(Side(), Side(), failed=(4, 0)) == []
    assert judge(Side(), Side(), failed=(0, 50)) == []
    mine, theirs = Side(), Side()
    told: list[str] = []
    trial = Trial(mine, theirs, 0.5, told.append)
    for side in (theirs, mine) * 30:
        trial.settled(side, BackendFailed("x"))
    assert told == []


def test_a_failing_canary_is_told_once():
    assert len(judge(Side(), Side(), failed=(20, 0))) == 1


def test_what_callers_do_wrong_counts_for_nobody():
    mine, theirs = Side(), Side()
    told: list[str] = []
    trial = Trial(mine, theirs, 0.5, told.append)
    for _ in range(100):
        trial.settled(mine, BadRequest("x"))
    assert told == []


class Agreed:
    def __init__(self, ratio: float, num_compared: int) -> None:
        self.ratio, self.num_compared = ratio, num_compared


@pytest.mark.parametrize(
    ("mine", "theirs", "is_told"),
    [
        ((0.8, 60), (0.9, 60), True),
        ((0.88, 60), (0.9, 60), False),
        ((0.5, 10), (0.9, 60), False),
        ((0.5, 60), (0.9, 9), False),
    ],
)
def test_a_canary_whose_caps_agree_more_rarely_is_sent_back(mine, theirs, is_told):
    told = judge(Side([Agreed(*mine), Agreed(0.0, 0)]), Side([Agreed(*theirs)]))
    assert bool(told) is is_told
    assert not told or "80.0% of its capped answers agree" in told[0]


def test_builtin_families_have_no_labels():
    repository = Repository(None, builtin=[fake_manifest()])
    assert repository.labels(FAMILY).canary is None
    assert repository.stable(FAMILY).version == "1"
