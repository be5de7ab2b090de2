"""Which families are loaded, and how one comes and goes while others are served."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import count

from server.backends.base import Backend
from server.controller import MakePolicy
from server.engine.background import Background
from server.engine.canary import CANARY, STABLE, Trials
from server.engine.dispatch import Dispatcher
from server.engine.families import Family, load_model
from server.engine.gauges import FamilyGauges
from server.engine.guard import Guard
from server.engine.ledger import Ledger
from server.engine.memory import trim
from server.engine.pilot import Pilot
from server.engine.statuses import Standing, Status
from server.errors import ModelNotReady, ServeError, Unavailable
from server.metrics import Metrics
from server.models.manifest import Manifest
from server.models.repository import Repository
from server.scheduler import Costs, LatencyModel
from server.settings import Settings

_log = logging.getLogger("adatape.engine")

TRIM_DELAY_S = 1.0
"""By then nobody holds on to a model that is seen out, and what it took is free."""

Shelved = tuple[str, str]
"""A family's name and a version of it."""


class Shelf:
    """The loaded families of one repository, one version each, by name in `families`."""

    def __init__(
        self,
        repository: Repository,
        backend: Backend,
        metrics: Metrics,
        settings: Settings,
        dispatcher: Dispatcher,
        ledger: Ledger,
        clock: Callable[[], float],
        make_policy: MakePolicy,
    ) -> None:
        self.families: dict[str, Family] = {}
        self._repository = repository
        self._backend = backend
        self._metrics = metrics
        self._settings = settings
        self._dispatcher = dispatcher
        self._ledger = ledger
        self._clock = clock
        self._make_policy = make_policy
        self._changing: dict[Shelved, Standing] = {}
        self._faults: dict[Shelved, str] = {}
        self._gauges: dict[str, FamilyGauges] = {}
        self._numbers = count(1)
        self.trials = Trials(repository, metrics, partial(self._open, is_canary=True), self._retire)
        self._one_at_a_time = asyncio.Lock()
        self._background = Background(settings.num_threads)
        self._retirements: set[asyncio.Task[None]] = set()

    def find(self, model: str, version: str | None = None) -> Family:
        """Return a loaded family.

        Raises: NotFound, naming what there is; ModelNotReady if it exists but is not loaded.
        """
        family, trial = self.families.get(model), self.trials.by_model.get(model)
        if family is not None and version in {None, family.manifest.version, STABLE}:
            return family
        if trial is not None and version in {trial.family.manifest.version, CANARY}:
            return trial.family
        manifest = self._repository.get(model, version)
        loaded = f"version {family.manifest.version}, which is loaded" if family else "a family that is loaded"
        raise ModelNotReady("model", f"{manifest.family} version {manifest.version}", loaded)

    def route(self, model: str, version: str | None) -> Family:
        """Return the loaded family that answers the next request: for its share of those without a version, the canary.

        Raises: as `find`.
        """
        if version is None and (trial := self.trials.by_model.get(model)) is not None and trial.takes_next():
            return trial.family
        return self.find(model, version)

    def manifest(self, model: str, version: str | None = None) -> Manifest:
        """Return the manifest of what answers: the loaded version, or that on disk where it is not loaded.

        Raises: NotFound, naming what there is.
        """
        try:
            return self.find(model, version).manifest
        except ModelNotReady:
            return self._repository.get(model, version)

    def loaded(self) -> list[Family]:
        """Return the loaded families, by name."""
        return [self.families[name] for name in sorted(self.families)]

    async def load_all(self) -> None:
        """Load every family of the repository; one that cannot be loaded is logged and left out."""
        for name in self._repository.families():
            try:
                self.families[name] = await self._open(self._repository.stable(name))
                await self.trials.follow(name, self.families[name])
            except ServeError as error:
                _log.error("family_not_loaded family=%s reason=%r", name, str(error))

    async def load(self, name: str) -> None:
        """Look at the disk again, then load a family's stable version, let it take over, and follow its labels.

        The version it replaces finishes what it accepted. A version that is loaded already is left as it is: its
        manifest names the hash of every file, so there is nothing new to load.
        Raises: NotFound; ServeError if it is not whole or cannot be loaded, and then what was loaded before goes on.
        """
        async with self._one_at_a_time:
            try:
                await self._background.read(self._repository.scan)
            except ValueError as error:
                raise Unavailable(str(error)) from error
            manifest, former = self._repository.stable(name), self.families.get(name)
            if self._repository.labels(name).stable is None:
                self._check_newest(manifest)
            if former is None or former.manifest != manifest:
                self.families[name] = await self._open(manifest)
                if former is not None:
                    former.trial = None
                    await self._retire(former)
            await self.trials.follow(name, self.families[name])

    def _check_newest(self, manifest: Manifest) -> None:
        """Refuse to take an older version for the newest, which is there but not whole.

        Raises: ModelNotReady, with what is wrong with it.
        """
        for (family, version), reason in ((_to_place(path), why) for path, why in self._repository.broken().items()):
            if family == manifest.family and version.isdigit() and int(version) > int(manifest.version):
                expected = f"a complete one; version {manifest.version} is the newest that is"
                raise ModelNotReady(f"version {version} of {family}", reason, expected)

    async def unload(self, name: str) -> None:
        """Admit nothing more for a family, finish what it accepted, then let go of its memory.

        Raises: NotFound if there is no such family; one that is not loaded is left as it is.
        """
        async with self._one_at_a_time:
            await self.trials.end(name)
            family = self.families.pop(name, None)
            if family is None:
                self._repository.get(name)
            else:
                await self._retire(family)

    def statuses(self) -> list[Status]:
        """Return every version that is on disk or loaded, by name."""
        repository = self._repository
        whole = {(name, version) for name in repository.families() for version in repository.versions(name)}
        reasons = dict.fromkeys(whole, "it is not loaded") | self._faults | self.trials.rejected
        reasons |= {_to_place(path): why for path, why in repository.broken().items()}
        loaded = {(name, family.manifest.version) for name, family in self.families.items()}
        loaded |= {(name, trial.family.manifest.version) for name, trial in self.trials.by_model.items()}
        standings = dict.fromkeys(reasons, Standing.UNAVAILABLE) | self._changing
        standings |= dict.fromkeys(loaded, Standing.READY)
        return [
            Status(*place, standing, reasons.get(place, "") if standing is Standing.UNAVAILABLE else "")
            for place, standing in sorted(standings.items())
        ]

    async def _open(self, manifest: Manifest, *, is_canary: bool = False) -> Family:
        """Load a version off the event loop, then open its lanes."""
        place, started_s = (manifest.family, manifest.version), self._clock()
        self._changing[place] = Standing.LOADING
        try:
            model = await self._background.load(load_model, self._backend, manifest)
        except ServeError as error:
            self._faults[place] = str(error)
            raise
        finally:
            self._changing.pop(place, None)
        self._faults.pop(place, None)
        max_batch_size = min(manifest.max_batch_size, self._settings.max_batch_size)
        costs = Costs(manifest, LatencyModel(manifest), max_batch_size, self._settings.execution_bound_s)
        family = Family(manifest, model, self._metrics.meter(manifest), costs, next(self._numbers))
        family.cold = set() if model.is_ready else set(costs.places)
        family.pilot = self._pilot(family)
        family.guard = self._guard(family)
        self._dispatcher.add_family(family)
        family.meter.version_counts.mean_flops = costs.mean_flops
        if not is_canary:  # a canary's would take the place of the stable version's
            self._gauges[family.key] = FamilyGauges(self._metrics, family, self._dispatcher)
        seconds = self._clock() - started_s
        _log.info("family_loaded family=%s device=%s seconds=%.3f", family.key, model.device, seconds)
        return family

    def _pilot(self, family: Family) -> Pilot | None:
        """Return what steers a family's cap; None without a service level."""
        slo_s = self._settings.slo_s
        if slo_s is None:
            return None
        policy = self._make_policy(slo_s, len(family.costs.buckets))
        dry = self._settings.slo_dry_run
        return Pilot(family.manifest, family.costs, family.meter, policy, slo_s, is_dry_run=dry)

    def _guard(self, family: Family) -> Guard | None:
        """Return what watches the quality of capped answers; None where no share of them is compared."""
        share, least = self._settings.shadow_share, self._settings.min_agreement
        if share == 0:
            return None
        return Guard(family, self._dispatcher, self._clock, share=share, min_agreement=least)

    async def _retire(self, family: Family) -> None:
        """See a family out, to the end even if the caller does not wait for it."""
        task = asyncio.create_task(self._close(family))
        self._retirements.add(task)
        task.add_done_callback(self._retirements.discard)
        await asyncio.shield(task)

    async def _close(self, family: Family) -> None:
        place = (family.manifest.family, family.manifest.version)
        self._changing[place] = Standing.UNLOADING
        await self._ledger.wait_settled(family)
        self._changing.pop(place, None)
        self._dispatcher.remove_family(family)
        if family.guard is not None:
            family.guard.stop()
        if (gauges := self._gauges.pop(family.key, None)) is not None:
            gauges.stop()
        self._metrics.retire(family.manifest)
        self._background.later(trim, TRIM_DELAY_S)
        _log.info("family_unloaded family=%s", family.key)


def _to_place(path: str) -> Shelved:
    family, _, version = path.partition("/")
    return family, version
