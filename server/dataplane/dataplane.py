"""Serves the Open Inference Protocol with one engine, for any transport."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from server.dataplane import metadata
from server.dataplane.budget_parameters import read_request_limits
from server.dataplane.messages import OipRequest, OipResponse, Plan
from server.dataplane.metadata import Json
from server.dataplane.outputs import to_oip_response
from server.dataplane.signature import InputLayout, Signature, TensorBatch, TensorSpec
from server.engine import Engine
from server.engine.families import Family
from server.errors import BadRequest, ModelNotReady
from server.http.body_memory import BodyMemory
from server.images import DecodePool
from server.records import InferAnswer, InferRequest
from server.settings import Settings

_QUICK_VALUES = 1 << 14
"""So many elements of JSON tensors are converted on the event loop, in about a millisecond."""


class DataPlane:
    """Answers every request of the protocol with plain documents and tensors."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine = engine
        self._settings = settings
        self._signatures: WeakKeyDictionary[Family, Signature] = WeakKeyDictionary()
        self.decode_pool = DecodePool(settings)
        """The threads for work that would hold up the event loop, on every surface."""
        self.body_memory = BodyMemory(settings.max_body_bytes, settings.max_bodies_bytes)
        """The memory that the bodies and messages of all requests hold together, on every surface."""

    # --- Inference ---

    async def prepare(self, request: OipRequest) -> tuple[InferRequest, "ResponseBuilder"]:
        """Check and decode a request; return the request for the engine, and what makes a response of its answer.

        Raises: ServeError for a request that cannot be answered.
        """
        family = self.engine.shelf.find(request.model, request.version)
        plan = self._plan(family, request)
        batch = await self._read(plan.layout, request)
        infer_request = InferRequest(
            request_id=request.request_id,
            model=request.model,
            version=request.version,
            inputs_BX=await self._inputs(batch, family, plan.ask.deadline_at(request.arrival_s)),
            arrival_s=request.arrival_s,
            ask=plan.ask,
            max_tape_B=batch.max_tape_B,
            protocol=request.protocol,
            tenant=request.tenant,
        )
        return infer_request, ResponseBuilder(plan)

    def _plan(self, family: Family, request: OipRequest) -> Plan:
        """Check all of a request but its tensors' bytes, or return the kept plan of an equal request."""
        is_repeatable = request.plans is not None and not request.defaults and request.time_left_s is None
        plan = request.plans.get(family) if request.plans is not None and is_repeatable else None
        if plan is None:
            signature = self._signature(family)
            chosen = signature.choose(request.outputs)
            ask = read_request_limits(request.parameters, request.defaults, request.time_left_s)
            plan = Plan(ask, signature.arrange(request.inputs), chosen, signature.labels)
            if request.plans is not None and is_repeatable:
                request.plans[family] = plan
        return plan

    def direct_spec(self, model: str, version: str | None) -> TensorSpec:
        """Return the model's direct input, which takes samples in the reader's own form.

        Raises: NotFound; ModelNotReady.
        """
        return self._signature(self.engine.shelf.find(model, version)).direct

    async def _read(self, layout: InputLayout, request: OipRequest) -> TensorBatch:
        if sum([len(tensor.values) for tensor in request.inputs]) <= _QUICK_VALUES:
            return layout.decode(request.inputs)
        return await self.decode_pool.run(partial(layout.decode, request.inputs))

    async def _inputs(self, batch: TensorBatch, family: Family, deadline_s: float) -> NDArray[Any]:
        """Return the batch as the model reads it: as it came, or decoded before the deadline."""
        if batch.inputs_BX is not None:
            return batch.inputs_BX
        target = family.manifest.preprocessing
        assert batch.encoded_B is not None, "A batch has one of the two. This is a bug."
        assert target is not None, "Only images have an encoded form. This is a bug."
        images = [partial(bytes, data) for data in batch.encoded_B]
        pictures = await self.decode_pool.decode(images, target, deadline_s)
        return np.stack([picture.pixels_HW3 for picture in pictures])

    # --- Everything else ---

    def check_live(self) -> None:
        """Return if the engine moves.

        Raises: Unavailable.
        """
        self.engine.check_live()

    def check_ready(self) -> None:
        """Return if requests are admitted.

        Raises: ModelNotReady.
        """
        if not self.engine.is_ready:
            raise ModelNotReady("the server is not ready", "a start or a shutdown", "a server that has started")

    def server_metadata(self) -> Json:
        return metadata.server_metadata()

    def check_model_ready(self, model: str, version: str | None) -> None:
        """Return if a model is served.

        Raises: NotFound; ModelNotReady.
        """
        self.engine.shelf.find(model, version).check_ready()
        self.check_ready()

    def model_metadata(self, model: str, version: str | None) -> Json:
        family = self.engine.shelf.find(model, version)
        return metadata.model_metadata(family, self._signature(family))

    def model_config(self, model: str, version: str | None) -> Json:
        family = self.engine.shelf.find(model, version)
        return metadata.model_config(family, self._signature(family), self._settings)

    def statistics(self, model: str | None = None, version: str | None = None) -> Json:
        """Return the statistics of one model, or of all that are served."""
        families = [self.engine.shelf.find(model, version)] if model else self.engine.shelf.loaded()
        return {"model_stats": [metadata.model_statistics(family) for family in families]}

    def repository_index(self, *, only_ready: bool) -> list[Json]:
        return metadata.repository_index(self.engine.shelf.statuses(), only_ready=only_ready)

    async def load(self, model: str, parameters: Sequence[str] = ()) -> None:
        """Load a model's newest version from disk.

        Raises: NotFound; BadRequest for parameters: a family is served as it was published.
        """
        _allow(parameters, ())
        self.engine.check_open()
        await self.engine.shelf.load(model)

    async def unload(self, model: str, parameters: Sequence[str] = ()) -> None:
        """Stop serving a model; return once what it accepted is answered.

        Raises: NotFound; BadRequest for parameters other than `unload_dependents`: no model has dependents.
        """
        _allow(parameters, ("unload_dependents",))
        self.engine.check_open()
        await self.engine.shelf.unload(model)

    def _signature(self, family: Family) -> Signature:
        signature = self._signatures.get(family)
        if signature is None:
            max_batch_size = min(family.manifest.max_batch_size, self._settings.max_request_samples)
            signature = self._signatures[family] = Signature(family.manifest, max_batch_size)
        return signature


class ResponseBuilder:
    """Makes the response that a request asks for of the engine's answer."""

    __slots__ = ("_plan",)

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __call__(self, answer: InferAnswer) -> OipResponse:
        return to_oip_response(answer, self._plan.chosen, self._plan.labels)


def _allow(given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise BadRequest("parameter of the repository request", name, ", ".join(known) or "none")
