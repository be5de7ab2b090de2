"""The supervisor: what is started anew, after which pause, and what is not; in fake time."""

import signal
import subprocess

import pytest

from server import supervisor as module
from server.settings import Settings
from server.supervisor import FIRST_PAUSE_S, MAX_FAILED_PROBES, MAX_PAUSE_S, STEADY_S, Probe, Supervisor


class Worker:
    """A process that lives through so many waits, then ends with a status."""

    def __init__(self, num_waits: int, status: int) -> None:
        self.pid, self.num_waits, self.status = 7, num_waits, status
        self.signals: list[int] = []

    def wait(self, timeout=None):
        if self.num_waits == 0:
            return self.status
        self.num_waits -= 1
        raise subprocess.TimeoutExpired("server", timeout)

    def send_signal(self, number):
        self.signals.append(number)
        self.num_waits, self.status = 0, 0

    def kill(self):
        self.num_waits, self.status = 0, -signal.SIGKILL


class World:
    def __init__(self, *workers: Worker, live=None, lives_s: float = 1.0) -> None:
        self.workers, self.started, self.pauses = list(workers), [], []
        self.live = live or (lambda: True)
        self.now_s, self.lives_s = 0.0, lives_s
        self.supervisor = Supervisor(self.start, self.is_live, clock=lambda: self.now_s, pause=self.pauses.append)

    def is_live(self) -> bool:
        return self.live()

    def start(self):
        self.started.append(self.workers.pop(0))
        return self.started[-1]

    def run(self) -> int:
        return self.supervisor.run()


def test_a_crashed_worker_is_started_anew_until_one_ends_well():
    world = World(Worker(2, -11), Worker(2, 1), Worker(2, 0))
    assert world.run() == 0
    assert len(world.started) == 3
    assert world.pauses == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S]


def test_a_worker_that_never_served_is_not_started_again():
    world = World(Worker(0, 1))
    assert world.run() == 1
    world = World(Worker(5, 1), live=lambda: False)
    assert world.run() == 1
    assert world.pauses == []


def test_pauses_grow_to_a_limit_and_shrink_after_a_steady_time():
    world = World(*[Worker(1, 1) for _ in range(10)], Worker(1, 0))
    world.run()
    assert world.pauses[-1] == MAX_PAUSE_S
    steady = World(*[Worker(1, 1) for _ in range(3)], Worker(1, 0))
    steady.pauses = Pauses(steady)
    steady.supervisor._pause = steady.pauses.append
    steady.run()
    assert steady.pauses.values == [FIRST_PAUSE_S, FIRST_PAUSE_S, FIRST_PAUSE_S]


class Pauses:
    """Lets a steady time pass at each probe."""

    def __init__(self, world: World) -> None:
        self.values: list[float] = []
        world.live = lambda: setattr(world, "now_s", world.now_s + STEADY_S + 1) or True

    def append(self, seconds: float) -> None:
        self.values.append(seconds)


def test_a_worker_that_lives_no_more_is_killed_and_started_anew():
    answers = iter([True, *[False] * MAX_FAILED_PROBES, True])
    world = World(Worker(20, 0), Worker(1, 0), live=lambda: next(answers))
    assert world.run() == 0
    assert world.started[0].status == -signal.SIGKILL
    assert len(world.started) == 2


def test_one_failed_probe_is_forgiven():
    answers = iter([True, False, False, True, False, False, True])
    world = World(Worker(7, 0), live=lambda: next(answers))
    assert world.run() == 0
    assert len(world.started) == 1


def test_a_stop_signal_is_passed_on_and_nothing_is_started_after_it():
    world = World(Worker(5, 1), Worker(5, 1))
    world.live = lambda: world.supervisor.stop(signal.SIGTERM) or True
    assert world.run() == 0
    assert world.started[0].signals == [signal.SIGTERM]
    assert len(world.started) == 1


def test_a_stop_signal_during_a_pause_ends_it():
    world = World(Worker(1, 1), Worker(5, 1))
    world.supervisor._pause = lambda _: world.supervisor.stop(signal.SIGTERM)
    assert world.run() == 1
    assert len(world.started) == 1


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"port": 9000}, "http://127.0.0.1:9000/healthz"),
        ({"port": 9000, "host": "0.0.0.0", "insecure": True}, "http://127.0.0.1:9000/healthz"),
        ({"port": 9000, "host": "::1"}, "http://[::1]:9000/healthz"),
        ({"port": 0}, None),
    ],
)
def test_the_worker_is_asked_where_it_listens(settings, url):
    assert Probe(Settings(**settings))._url == url


def test_a_worker_that_does_not_answer_is_not_live(monkeypatch):
    def refuse(*_, **__):
        raise OSError("refused")

    monkeypatch.setattr(module.urllib.request, "urlopen", refuse)
    assert not Probe(Settings(port=9000))()
    assert Probe(Settings(port=0))()
