"""What each model is, the accuracy and cost of each cap, and quotes: what a request would cost."""

from typing import Any

import numpy as np
import orjson

from server.budget import BudgetTable
from server.classify.schemas import (
    Curve,
    ExpectedQuality,
    ModelDetail,
    ModelList,
    ModelSummary,
    PredictedLatency,
    PublicCurvePoint,
    Quote,
)
from server.engine import Engine
from server.errors import BadRequest
from server.http.bounded_json import read_json
from server.http.exchange import HttpReply, HttpRequest, json_reply
from server.models.manifest import Manifest
from server.params import BY_NAME, read_fields, read_headers, read_query, to_options
from server.records import BudgetReason
from server.scheduler import LatencyModel, Stage
from server.settings import JsonLimits, Settings

_MS = 1000.0
QUOTE_PARAMETERS = {name: BY_NAME[name] for name in ("version", "max_tape", "max_flops", "min_accuracy")}


class ModelsHandler:
    """Describes the models of one engine."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._json_limits = settings.small_json_limits
        self._repository = engine.repository

    async def index(self) -> ModelList:
        """List the models that can be served, and say why others cannot."""
        families = self._repository.families()
        models = [ModelSummary(**self._summary(self._engine.shelf.manifest(name))) for name in families]
        default = self._repository.default() if families else None
        return ModelList(default=default, models=models, broken=self._repository.broken())

    async def detail(self, model: str, version: str | None = None) -> ModelDetail:
        """Describe one model; the newest version unless one is named."""
        manifest = self._engine.shelf.manifest(model, version)
        lengths = range(manifest.tape_capacity + 1)
        return ModelDetail(
            **self._summary(manifest),
            labels=manifest.labels,
            reads_per_step=manifest.reads_per_step,
            halting_threshold=manifest.halting_threshold,
            bank=manifest.bank,
            max_batch_size=manifest.max_batch_size,
            flops=[manifest.flops.useful(length, length) for length in lengths],
            hardware=manifest.latency.hardware,
            source=manifest.source,
        )

    async def curve(self, model: str, version: str | None = None) -> Curve:
        """Show a model's quality curve: accuracy and cost for each cap."""
        manifest = self._engine.shelf.manifest(model, version)
        quality = manifest.quality
        return Curve(
            model=model,
            version=manifest.version,
            data=quality.data,
            split=quality.split,
            data_digest=quality.data_digest,
            num_samples=quality.num_samples,
            points=[PublicCurvePoint(**point.model_dump()) for point in quality.points],
        )

    async def quote(self, request: HttpRequest) -> HttpReply:
        """Answer a quote request; its parameters come from the same places as those of classify.

        Raises: ServeError, as classify would for the same parameters.
        """
        query, headers = read_query(request, QUOTE_PARAMETERS), read_headers(request, QUOTE_PARAMETERS)
        fields = read_fields(_read_object(await request.body(), self._json_limits), "JSON body", QUOTE_PARAMETERS)
        options = to_options(query=query, body=fields, headers=headers)
        manifest = self._engine.shelf.manifest(request.scope["path_params"]["model"], options.version)
        budget = BudgetTable(manifest).decide(options.ask)
        return json_reply(to_quote(manifest, budget.cap, budget.reason).model_dump())

    def _summary(self, manifest: Manifest) -> dict[str, Any]:
        capacity = manifest.tape_capacity
        return {
            "name": manifest.family,
            "version": manifest.version,
            "versions": self._repository.versions(manifest.family),
            "is_default": manifest.family == self._repository.default(),
            "device": self._engine.device,
            "precision": manifest.precision,
            "num_labels": len(manifest.labels),
            "preprocessing": manifest.preprocessing,
            "symbols": manifest.symbols,
            "tape_capacity": capacity,
            "buckets": manifest.buckets,
            "min_flops": manifest.flops.useful(0, 0),
            "full_flops": manifest.flops.useful(capacity, capacity),
        }


def to_quote(manifest: Manifest, cap: int, reason: BudgetReason) -> Quote:
    """Return what one image under this cap can cost, and the accuracy to expect."""
    flops, bucket, capacity = manifest.flops, manifest.bucket_for(cap), manifest.tape_capacity
    return Quote(
        model=manifest.family,
        version=manifest.version,
        cap=cap,
        budget_reason=reason,
        bucket=bucket,
        max_useful_flops=BudgetTable(manifest).worst_flops[cap],
        max_executed_flops=flops.read_executed(is_reading=cap > 0) + flops.trunk[bucket],
        full_flops=flops.useful(capacity, capacity),
        expected=_expect(manifest, cap),
        latency=_predict(manifest, cap),
    )


def _expect(manifest: Manifest, cap: int) -> ExpectedQuality:
    points = sorted(manifest.quality.points, key=lambda point: point.cap)
    caps = [point.cap for point in points]
    fields = ExpectedQuality.model_fields
    return ExpectedQuality(
        **{name: float(np.interp(cap, caps, [getattr(point, name) for point in points])) for name in fields}
    )


def _predict(manifest: Manifest, cap: int) -> PredictedLatency:
    latency = LatencyModel(manifest)
    read_s = latency.predict_s(Stage.READ if cap > 0 else Stage.EMBED, 0, 1)
    trunk_s = latency.predict_s(Stage.TRUNK, manifest.bucket_for(cap), 1)
    return PredictedLatency(
        hardware=manifest.latency.hardware,
        read_ms=read_s * _MS,
        trunk_ms=trunk_s * _MS,
        total_ms=(read_s + trunk_s) * _MS,
    )


def _read_object(body: bytes, limits: JsonLimits) -> dict[str, object]:
    """Return the body's JSON object; no body is an empty one."""
    try:
        document = read_json(body, limits) if body else {}
    except orjson.JSONDecodeError as error:
        raise BadRequest("JSON body", str(error), 'an object such as {"max_tape": 8}') from error
    if not isinstance(document, dict):
        raise BadRequest("JSON body", type(document).__name__, 'an object such as {"max_tape": 8}')
    return document
