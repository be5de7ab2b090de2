"""`GET /v1/controller`: the state of each model's controller, and its last changes of the cap."""

import time
from typing import Literal

from server.classify.schemas import PublicModel
from server.engine import Engine, Pilot
from server.models.manifest import Manifest
from server.settings import Settings

_MS = 1000.0


class RungState(PublicModel):
    """One cap that could be chosen, as it looked when the last batch was formed."""

    cap: int
    accuracy: float
    """On the quality curve."""
    predicted_ms: float | None
    """From arrival to answer of an image that arrived then; null before the first batch."""
    load: float | None
    """Share of the device that the arrivals would take; null before the first batch."""


class MoveState(PublicModel):
    """One change of the cap."""

    ago_ms: float
    cap_before: int
    cap: int
    reason: str


class ModelState(PublicModel):
    """The controller of one model."""

    model: str
    version: str
    cap: int
    """Cap that it has chosen for what is read now."""
    limit_ms: float
    """Predicted time of an answer beyond which requests are refused."""
    arrivals_per_s: float
    rungs: list[RungState]
    moves: list[MoveState]
    """The last moves, newest first."""


class ControllerState(PublicModel):
    """Whether a service level is set, and what each model's controller does to keep it."""

    mode: Literal["off", "on", "dry_run"]
    """`off` where no service level is set: everyone gets what they want."""
    slo_ms: float | None
    models: list[ModelState]


class ControllerView:
    """Shows operators why the caps are what they are."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._settings = settings

    async def controller(self) -> ControllerState:
        """Show the controller's state and its last moves."""
        settings, now = self._settings, time.monotonic()
        families = [family for _, family in sorted(self._engine.shelf.families.items())]
        return ControllerState(
            mode="off" if settings.slo_ms is None else "dry_run" if settings.slo_dry_run else "on",
            slo_ms=settings.slo_ms,
            models=[_to_state(family.manifest, family.pilot, now) for family in families if family.pilot is not None],
        )


def _to_state(manifest: Manifest, pilot: Pilot, now: float) -> ModelState:
    seen = pilot.outlook
    return ModelState(
        model=manifest.family,
        version=manifest.version,
        cap=pilot.cap,
        limit_ms=pilot.policy.limit_s * _MS,
        arrivals_per_s=pilot.rate.at(now),
        rungs=[
            RungState(
                cap=rung.cap,
                accuracy=rung.accuracy,
                predicted_ms=None if seen is None else seen.answer_s[place] * _MS,
                load=None if seen is None else seen.demand[place],
            )
            for place, rung in enumerate(pilot.rungs)
        ],
        moves=[
            MoveState(ago_ms=(now - move.at_s) * _MS, cap_before=move.cap_before, cap=move.cap, reason=move.reason)
            for move in reversed(pilot.moves)
        ],
    )
