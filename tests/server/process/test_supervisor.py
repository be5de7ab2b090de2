"""The supervisor: what is started anew, after which pause, and what is not; in fake time."""

import signal
import subprocess
import sys
from email.message import Message
from urllib.error import HTTPError

import pytest

from server.process import supervisor as module
from server.process.supervisor import (
    FIRST_PAUSE_S,
    MAX_PAUSE_S,
    STEADY_S,
    Probe,
    ProbeResult,
    RestartInfo,
    Supervisor,
)
from server.settings import Settings

LIVE, NOT_LIVE, SILENT = ProbeResult


class Worker:
    """A process that lives through so many waits, then ends with a status."""

    def __init__(self, num_waits: int, status: int) -> None:
        self.pid, self.num_waits, self.status = 7, num_waits, status
        self.signals: list[int] = []
        self.waits_s: list[float] = []

    def wait(self, timeout_s):
        if self.num_waits == 0:
            return self.status
        self.num_waits -= 1
        self.waits_s.append(timeout_s)
        return None

    def send_signal(self, number):
        self.signals.append(number)
        self.num_waits, self.status = 0, -number if number == signal.SIGKILL else 0


class World:
    def __init__(self, *workers: Worker, probe=None) -> None:
        self.workers, self.started, self.pauses, self.down_since_s = list(workers), [], [], []
        self.probe = probe or (lambda: LIVE)
        self.now_s = 0.0
        self.supervisor = Supervisor(self.start, self.ask, clock=lambda: self.now_s, pause=self.pauses.append)

    def ask(self) -> ProbeResult:
        self.now_s += 1
        return self.probe()

    def start(self, restart_info):
        self.down_since_s.append(restart_info.down_since_s)
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
    world = World(Worker(5, 1), probe=lambda: SILENT)
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
        world.probe = lambda: setattr(world, "now_s", world.now_s + STEADY_S + 1) or LIVE

    def append(self, seconds: float) -> None:
        self.values.append(seconds)


@pytest.mark.parametrize(
    "words",
    [
        (NOT_LIVE, NOT_LIVE),
        (SILENT, SILENT, SILENT),
        (SILENT, NOT_LIVE),
        (NOT_LIVE, LIVE, SILENT, SILENT, LIVE, NOT_LIVE, SILENT),
    ],
    ids=str,
)
def test_a_worker_that_is_of_no_use_any_more_is_killed_and_started_anew(words):
    answers = iter([LIVE, *words, LIVE])
    world = World(Worker(len(words) + 1, 0), Worker(1, 0), probe=lambda: next(answers))
    assert world.run() == 0
    assert world.started[0].status == -signal.SIGKILL
    assert len(world.started) == 2
    first_bad = max((i for i, word in enumerate(words) if word is LIVE), default=-1) + 1
    assert world.down_since_s == [None, 1.0 + first_bad]


def test_one_that_says_that_it_does_not_live_is_asked_again_soon():
    answers = iter([LIVE, LIVE, NOT_LIVE, LIVE, SILENT, LIVE])
    world = World(worker := Worker(6, 0), probe=lambda: next(answers))
    world.run()
    assert worker.waits_s[1:] == [each.again_s for each in (LIVE, LIVE, NOT_LIVE, LIVE, SILENT)]
    assert NOT_LIVE.again_s < LIVE.again_s <= SILENT.again_s


def test_one_failed_probe_is_forgiven():
    answers = iter([LIVE, SILENT, SILENT, LIVE, NOT_LIVE, LIVE, SILENT, SILENT, LIVE])
    world = World(Worker(9, 0), probe=lambda: next(answers))
    assert world.run() == 0
    assert len(world.started) == 1


def test_a_stop_signal_is_passed_on_and_nothing_is_started_after_it():
    world = World(Worker(5, 1), Worker(5, 1))
    world.probe = lambda: world.supervisor.stop(signal.SIGTERM) or LIVE
    assert world.run() == 0
    assert world.started[0].signals == [signal.SIGTERM]
    assert len(world.started) == 1


def test_a_signal_that_does_not_stop_is_passed_on_and_the_worker_stays():
    world = World(Worker(2, 0))
    world.probe = lambda: world.supervisor.pass_on(signal.SIGHUP) or LIVE
    world.supervisor.pass_on(signal.SIGHUP)  # nobody is there yet
    worker = world.workers[0]
    worker.send_signal = worker.signals.append
    assert world.run() == 0
    assert worker.signals == [signal.SIGHUP] * 2


def test_a_worker_that_does_not_stop_in_time_is_killed():
    world = World(worker := Worker(100, 1))
    world.supervisor._stop_s = 10
    worker.send_signal = lambda number: Worker.send_signal(worker, number) if number == signal.SIGKILL else None
    answers = iter([LIVE, SILENT])
    world.probe = lambda: next(answers, None) or world.supervisor.stop(signal.SIGTERM) or SILENT
    assert world.run() == -signal.SIGKILL
    assert 12 <= world.now_s <= 15


@pytest.mark.parametrize(("status", "told"), [(0, 0), (3, 3), (-signal.SIGTERM, 143)])
def test_the_exit_status_is_as_a_shell_has_it(monkeypatch, status, told):
    monkeypatch.setattr(module.Supervisor, "run", lambda _: status)
    monkeypatch.setattr(module.signal, "signal", lambda *_: None)
    assert module.supervise(Settings(port=9000), lambda _: None) == told


def test_a_stop_signal_while_a_worker_is_being_started_reaches_it():
    world = World(Worker(5, 1))

    def start(_) -> Worker:
        world.supervisor.stop(signal.SIGINT)
        return world.start(RestartInfo())

    world.supervisor._start = start
    assert world.run() == 0
    assert world.started[0].signals == [signal.SIGTERM]


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


def test_what_a_probe_hears(monkeypatch):
    def hear(error) -> ProbeResult:
        def open_(*_, **__):
            raise error

        monkeypatch.setattr(module.urllib.request, "urlopen", open_)
        return Probe(Settings(port=9000))()

    refused = Message()
    refused["Retry-After"] = "1"
    assert hear(OSError("refused")) is SILENT
    assert hear(TimeoutError()) is SILENT
    assert hear(HTTPError("/healthz", 503, "stuck", Message(), None)) is NOT_LIVE
    assert hear(HTTPError("/healthz", 503, "too many connections", refused, None)) is LIVE
    assert Probe(Settings(port=0))() is LIVE


def test_what_is_forked_has_started_nothing():
    code = "import server.__main__, sys, threading; print(threading.active_count(), 'onnxruntime' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == ["1", "False"]
