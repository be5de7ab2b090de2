"""A loaded version of a family: its manifest, its model, and what is worked out from them once."""

from typing import TYPE_CHECKING

import numpy as np

from server.backends.base import COLD_EXECUTION_S, EXECUTION_TIMEOUT_S, Backend, Model, warm
from server.budget import BudgetTable
from server.engine.pilot import Pilot
from server.errors import BadRequest, ModelNotReady, PayloadTooLarge
from server.metrics import ModelMeter
from server.models.manifest import Manifest
from server.records import InferRequest
from server.scheduler import Costs, Place

if TYPE_CHECKING:
    from server.engine.canary import Trial
    from server.engine.guard import Guard


class Family:
    """One loaded version; `key` names it to the scheduler.

    `number` tells it from an earlier load of the same version, which may still have work in line.
    """

    pilot: Pilot | None = None
    """Steers the cap where there is a service level."""

    trial: "Trial | None" = None
    """Compares it with another version, where one of the two is a canary."""

    guard: "Guard | None" = None
    """Watches what the caps cost in quality."""

    def __init__(self, manifest: Manifest, model: Model, meter: ModelMeter, costs: Costs, number: int) -> None:
        self.manifest = manifest
        self.key = f"{manifest.family}/{manifest.version}#{number}"
        self.model = model
        self.meter = meter
        self.budgets = BudgetTable(manifest)
        self.costs = costs
        flops, lengths = manifest.flops, range(manifest.tape_capacity + 1)
        self.useful_flops = [[flops.useful(length, cap) for length in lengths] for cap in (0, 1)]
        """By whether anything was read, and by tape length."""
        self.cold: set[Place] = set()
        """The stages and buckets that have not run yet; loading runs all of them where it can."""
        self._input = manifest.input
        self._dtype = np.dtype(manifest.input.dtype)

    def check_ready(self) -> None:
        """Return if what runs the graphs can be reached.

        Raises: ModelNotReady.
        """
        if not self.model.is_ready:
            got = f"{self.model.device}, which cannot be reached"
            raise ModelNotReady(f"what runs {self.manifest.family}", got, "a backend that is ready", retry_after_s=1.0)

    def check(self, request: InferRequest, max_samples: int) -> None:
        """Refuse inputs that the graphs would not take.

        Raises: BadRequest, PayloadTooLarge.
        """
        inputs = request.inputs_BX
        if inputs.dtype != self._dtype or inputs.shape[1:] != self._input.shape:
            expected = f"{self._dtype} [batch, {', '.join(map(str, self._input.shape))}]"
            raise BadRequest(self._input.name, f"{inputs.dtype} {list(inputs.shape)}", expected)
        if len(inputs) == 0:
            raise BadRequest(self._input.name, "an empty batch", "at least 1 sample")
        if len(inputs) > max_samples:
            raise PayloadTooLarge("batch", f"{len(inputs)} samples", f"at most {max_samples} in one request")
        if request.max_tape_B is not None and len(request.max_tape_B) != len(inputs):
            raise BadRequest("max_tape", f"{len(request.max_tape_B)} caps", f"one for each of {len(inputs)} samples")


def load_model(backend: Backend, manifest: Manifest) -> Model:
    """Load one version and warm it, if it can be reached; takes up to seconds, so call it off the event loop.

    Raises: ServeError if the backend cannot load it.
    """
    EXECUTION_TIMEOUT_S.set(COLD_EXECUTION_S)
    model = backend.load(manifest)
    if model.is_ready:
        warm(model, manifest)
    return model
