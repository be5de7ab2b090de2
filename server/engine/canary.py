"""A new version on trial beside the stable one: it answers a share of the requests, and goes if it does worse.

    labels.json of a family:  {"stable": "1", "canary": "2", "canary_share": 0.1}

It does worse if more of its requests fail, or if its capped answers agree with full tape less often. A canary that was
sent back stays out, over restarts too, until its labels are changed or the verdict beside them is taken away.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from server.engine.families import Family
from server.engine.guard import MIN_COMPARED, Guard
from server.errors import BackendFailed, ModelNotReady, ServeError
from server.metrics import Metrics
from server.models.manifest import Manifest
from server.models.repository import CanaryVerdict, Repository

_log = logging.getLogger("adatape.engine")

CANARY, STABLE = "canary", "stable"
MIN_FAILED = 5
"""Failures before the canary can be judged by them."""
MAX_FAILED_TIMES, MAX_FAILED_MORE = 2.0, 0.01
"""It may fail twice as often as the stable version, and one time in a hundred more."""
MAX_DISAGREED_MORE = 0.05
"""How much more rarely its capped answers may agree with full tape."""
SHARED = ("labels", "preprocessing", "tape_capacity", "bank", "flops")
"""What the two must have in common, so that callers cannot tell which one answers but by its version."""


@dataclass(slots=True)
class Score:
    """What became of one version's requests; what callers did wrong or cut short does not count."""

    num_answered: int = 0
    num_failed: int = 0

    @property
    def failed_ratio(self) -> float:
        return self.num_failed / max(1, self.num_answered + self.num_failed)


class Trial:
    """One canary and its score beside the stable version's; `on_worse` is called once, with the reason."""

    def __init__(self, family: Family, stable: Family, share: float, on_worse: Callable[[str], None]) -> None:
        self.family, self.stable, self.share = family, stable, share
        self._on_worse = on_worse
        self._random = Random(0)
        self._scores = {family: Score(), stable: Score()}
        self._is_over = False

    def takes_next(self) -> bool:
        """Draw whether the next request without a version is the canary's."""
        return self._random.random() < self.share

    def settled(self, family: Family, error: ServeError | None) -> None:
        """Count what became of a request of either version, and judge."""
        score = self._scores[family]
        if error is None:
            score.num_answered += 1
        elif isinstance(error, BackendFailed):
            score.num_failed += 1
        else:
            return
        reason = self.verdict()
        if reason is not None and not self._is_over:
            self._is_over = True
            self._on_worse(reason)

    def verdict(self) -> str | None:
        """Return in what the canary does worse; None if in nothing that is known."""
        mine, theirs = self._scores[self.family], self._scores[self.stable]
        bound = MAX_FAILED_TIMES * theirs.failed_ratio + MAX_FAILED_MORE
        if mine.num_failed >= MIN_FAILED and mine.failed_ratio > bound:
            return f"{mine.failed_ratio:.1%} of its requests fail, of the stable version's {theirs.failed_ratio:.1%}"
        ratio, least = _agreement(self.family.guard), _agreement(self.stable.guard)
        if ratio is not None and least is not None and ratio < least - MAX_DISAGREED_MORE:
            return f"{ratio:.1%} of its capped answers agree with full tape, of the stable version's {least:.1%}"
        return None


def _agreement(guard: Guard | None) -> float | None:
    """Return how often a version's capped answers agree; None before enough were compared."""
    if guard is None:
        return None
    agreements = [each for each in guard.agreements.values() if each.num_compared > 0]
    num_compared = sum(each.num_compared for each in agreements)
    if num_compared < MIN_COMPARED:
        return None
    return sum(each.ratio * each.num_compared for each in agreements) / num_compared


class Trials:
    """The trials of all models, by name in `by_model`. `open_` loads a version; `retire` sees it out."""

    def __init__(
        self,
        repository: Repository,
        metrics: Metrics,
        open_: Callable[[Manifest], Awaitable[Family]],
        retire: Callable[[Family], Awaitable[None]],
    ) -> None:
        self.by_model: dict[str, Trial] = {}
        self.rejected: dict[tuple[str, str], str] = {}
        """By family and version, why a canary was sent back."""
        self._unkept: dict[str, CanaryVerdict] = {}
        """Verdicts that the disk does not have: not yet, or it did not take them."""
        self._repository = repository
        self._metrics = metrics
        self._open = open_
        self._retire = retire
        self._tasks: set[asyncio.Task[None]] = set()

    async def follow(self, name: str, stable: Family) -> None:
        """Bring a model's trial in line with its labels, beside the version that is stable now.

        Raises: ServeError if the canary is not whole, cannot be loaded, or differs in what callers see.
        """
        labels, trial = self._repository.labels(name), self.by_model.get(name)
        self.rejected = {place: why for place, why in self.rejected.items() if place[0] != name}
        if labels.canary is None or labels.canary_share == 0 or labels.canary == stable.manifest.version:
            await self.end(name)
            return
        manifest = self._repository.get(name, labels.canary)
        verdict = self._unkept.get(name) or self._repository.verdict(name)
        if verdict is not None and verdict.holds(manifest, labels):
            self.rejected[name, manifest.version] = verdict.reason
            await self.end(name)
            return
        self._unkept.pop(name, None)
        _check_alike(manifest, stable.manifest)
        if trial is None or trial.family.manifest != manifest:
            await self.end(name)
            family = await self._open(manifest)
        else:
            family = trial.family
        self._begin(name, Trial(family, stable, labels.canary_share, lambda reason: self._send_back(name, reason)))

    async def end(self, name: str) -> None:
        """End a model's trial, if there is one, and see the canary out."""
        trial = self.by_model.pop(name, None)
        if trial is not None:
            trial.family.trial = trial.stable.trial = None
            await self._retire(trial.family)

    def _begin(self, name: str, trial: Trial) -> None:
        self.by_model[name] = trial.family.trial = trial.stable.trial = trial
        place = (name, trial.family.manifest.version, trial.stable.manifest.version, trial.share)
        _log.info("canary_on_trial model=%s canary=%s stable=%s share=%g", *place)

    def _send_back(self, name: str, reason: str) -> None:
        manifest = self.by_model[name].family.manifest
        _log.error("canary_sent_back model=%s version=%s reason=%r", name, manifest.version, reason)
        verdict = CanaryVerdict.on(manifest, self._repository.labels(name), f"sent back as a canary: {reason}")
        self.rejected[name, manifest.version] = verdict.reason
        self._unkept[name] = verdict
        self._metrics.rollbacks.add(1, name)
        task = asyncio.create_task(self._see_out(name, verdict))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _see_out(self, name: str, verdict: CanaryVerdict) -> None:
        """End a trial, and have the disk remember why; where it does not, this server does while it lives."""
        await self.end(name)
        try:
            await asyncio.to_thread(self._repository.keep_verdict, name, verdict)
        except OSError as error:
            _log.warning("canary_verdict_not_kept model=%s reason=%r", name, error.strerror)
        else:
            if self._unkept.get(name) is verdict:
                del self._unkept[name]


def _check_alike(canary: Manifest, stable: Manifest) -> None:
    for name in SHARED:
        if getattr(canary, name) != getattr(stable, name):
            got = f"another {name} than version {stable.version}"
            raise ModelNotReady(f"canary {canary.version} of {canary.family}", got, f"the same {', '.join(SHARED)}")
