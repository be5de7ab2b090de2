"""The real engine in fake time: an event loop that jumps to its next timer, and instances that take it there."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from server.backends.fake import FAMILY, SIDE_PX, FakeModel, fake_manifest
from server.controller import Controller, MakePolicy
from server.engine import Engine
from server.engine.execution import Execution
from server.metrics import Metrics
from server.models.manifest import Manifest
from server.models.repository import Repository
from server.records import InferAnswer, InferRequest, RequestLimits
from server.scheduler import LatencyModel
from server.settings import Settings
from server.tenancy import Tenancy

START_S = 1000.0
DEADLOCK_S = 10.0

# An image whose first byte is one of these brings trouble to its batch.
RAISE_IN_READ, RAISE_IN_TRUNK, NAN_LOGITS = 253, 254, 255


class JumpSelector(selectors.DefaultSelector):
    """Advances the loop's clock instead of waiting, but stands still while a thread works for the loop."""

    now = START_S
    num_working = 0

    def select(self, timeout=None):
        if timeout is None or (timeout > 0 and self.num_working):  # only the thread's end can wake the loop
            ready = super().select(DEADLOCK_S)
            assert ready, "Everything waits for ever"
            return ready
        ready = super().select(0)
        if not ready:
            self.now += max(timeout, 0)
        return ready


class FakeTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = JumpSelector()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now

    def run_in_executor(self, executor, func, *args):
        self._jump.num_working += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._end_work)
        return future

    def _end_work(self, _):
        self._jump.num_working -= 1


def simulate(main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end in fake time."""
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        return runner.run(main)


class SimulatedInstances:
    """Runs each execution at once and reports it when its time by the manifest's table has passed."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.num_running = 0
        self.history: list[Execution] = []
        self._tables: dict[str, LatencyModel] = {}

    def start(self) -> None:
        pass

    def replace(self) -> None:
        raise AssertionError("simulated executions always end")

    def stop(self) -> None:
        pass

    def submit(self, execution: Execution, done: Callable[[Execution], None]) -> None:
        self.num_running += 1
        assert self.num_running <= self.size, "more executions than instances"
        self.history.append(execution)
        execution.run()
        batch = execution.batch
        table = self._tables.setdefault(batch.model, LatencyModel(execution.family.manifest))
        seconds = table.predict_s(batch.stage, batch.bucket, len(batch.tickets))
        asyncio.get_running_loop().call_later(seconds, self._finish, execution, done)

    def _finish(self, execution: Execution, done: Callable[[Execution], None]) -> None:
        self.num_running -= 1
        execution.finished_s = asyncio.get_running_loop().time()
        done(execution)


class TroubledModel(FakeModel):
    """The fake model, with faults that images ask for by their first byte."""

    def read(self, image_BHWC, max_tape_B1):
        if (image_BHWC[:, 0, 0, 0] == RAISE_IN_READ).any():
            raise RuntimeError("the reader fell over")
        return super().read(image_BHWC, max_tape_B1)

    def run_trunk(self, hidden_BSD, tape_BTD, tape_length_B1):
        first_B = (hidden_BSD[:, 0, 0] * 255).round()
        if (first_B == RAISE_IN_TRUNK).any():
            raise RuntimeError("the trunk fell over")
        logits_BC = super().run_trunk(hidden_BSD, tape_BTD, tape_length_B1)
        logits_BC[first_B == NAN_LOGITS] = np.nan
        return logits_BC


class TroubledBackend:
    def load(self, manifest: Manifest) -> TroubledModel:
        return TroubledModel()


@dataclass
class World:
    """An engine in fake time with everything around it within reach. Build it inside the loop, with `open_world`."""

    engine: Engine
    metrics: Metrics
    instances: SimulatedInstances
    submitted: list[InferRequest] = field(default_factory=list)

    def request(self, images, *, max_tape_B=None, explain=False, tenant=None, **ask: Any) -> InferRequest:
        now = asyncio.get_running_loop().time()
        request = InferRequest(
            f"r{len(self.submitted)}",
            FAMILY,
            images,
            now,
            RequestLimits(**ask),
            max_tape_B,
            explain=explain,
            tenant=tenant,
        )
        self.submitted.append(request)
        return request

    async def infer(self, images, **ask: Any) -> InferAnswer:
        return await self.engine.infer(self.request(images, **ask))

    def value(self, name: str, **labels: str) -> float:
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None, f"no metric {name} {labels}"
        return value

    def outcomes(self) -> dict[str, int]:
        """Return the number of settled requests by outcome."""
        totals: dict[str, int] = {}
        for (_, _, outcome), count in self.metrics.requests.values.items():
            if count:
                totals[outcome] = totals.get(outcome, 0) + count
        return totals


async def open_world(
    *, num_instances: int = 1, backend: Any = None, make_policy: MakePolicy = Controller, **settings: Any
) -> World:
    """Return a started engine over the fake family on the running (fake time) loop."""
    metrics, clock = Metrics(), asyncio.get_running_loop().time
    settings = Settings(backend="fake", **settings)
    instances = SimulatedInstances(num_instances)
    engine = Engine(
        Repository(None, builtin=[fake_manifest()]),
        backend or TroubledBackend(),
        metrics,
        settings,
        instances=instances,
        clock=clock,
        make_policy=make_policy,
        tenancy=_open_tenancy(settings, metrics, clock) if settings.asks_who_calls else None,
    )
    await engine.start()
    return World(engine, metrics, instances)


def _open_tenancy(settings: Settings, metrics: Metrics, clock: Callable[[], float]) -> Tenancy:
    """Return a tenancy that does nothing by itself: its timer would take fake time along while threads work."""
    tenancy = Tenancy(settings, metrics, clock)
    tenancy._run = asyncio.Event().wait
    return tenancy


def images(*bytes_: int, first: int | None = None) -> np.ndarray:
    """Return one even image for each byte; `first` overrides the very first byte of each."""
    batch = np.stack([np.full((SIDE_PX, SIDE_PX, 3), byte, np.uint8) for byte in bytes_])
    if first is not None:
        batch[:, 0, 0, 0] = first
    return batch


def random_images(num_images: int, seed: int) -> np.ndarray:
    """Return distinct untroubled images of all brightnesses, so of all tape lengths wanted."""
    rng = np.random.default_rng(seed)
    tops = rng.integers(1, 253, (num_images, 1, 1, 1))
    batch = (rng.random((num_images, SIDE_PX, SIDE_PX, 3)) * 30 + tops).clip(0, 255).astype(np.uint8)
    batch[:, 0, 0, 0] %= RAISE_IN_READ
    return batch
