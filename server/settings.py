"""Every knob of the server, in one class whose fields say why one would change them.

Values come from keyword arguments, then `ADATAPE_*` environment variables, then the defaults. A field with repr=False
may hold a secret: its value is shown nowhere.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import CliToggleFlag, SettingsConfigDict

from server.access_settings import AccessSettings
from server.host import cgroups
from server.limit_settings import Limit, LimitSettings, Positive, Span
from server.records import Priority

ENV_PREFIX = "ADATAPE_"
NOT_SETTINGS = {"ADATAPE_DATA", "ADATAPE_API_KEY"}
"""Variables with our prefix that are for other commands."""

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
_FAULT = r"(raise|hang|nan|shape|crash|block|oom=[1-9]\d*|slow=\d+(\.\d+)?)"
_FAULTS = rf"^({_FAULT}(,{_FAULT})*)?$"


class Settings(AccessSettings, LimitSettings):
    """The server's configuration, complete and checked before anything starts.

    Units: `*_s` are seconds, `*_bytes` bytes.
    Raises: pydantic.ValidationError, naming each wrong field, unknown argument or unknown `ADATAPE_*` variable.
    """

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    port: Port = 8000
    """HTTP port. Change it where another program has the default; 0 takes a free one."""

    grpc_port: Port = 8001
    """gRPC port. Change it where another program has the default; 0 takes a free one."""

    model_repository: Path = Path("model_repository")
    """Folder of model families. Point it at your own once you have exported one."""

    backend: Literal["ort", "triton", "fake"] = "ort"
    """What runs the graphs. `triton` sends them to Triton Inference Servers, for more than one machine's worth; `fake`
    answers predictably without weights: for trying the API and for tests."""

    fake_faults: Annotated[str, Field(pattern=_FAULTS)] = ""
    """How the fake backend misbehaves, such as `raise,nan,slow=0.01`: for trying what becomes of requests then. See
    `docs/reliability.md`."""

    triton_url: Annotated[str, Field(pattern=r"^[^\s,:@]+:\d+(,[^\s,:@]+:\d+)*$")] = "127.0.0.1:8011"
    """gRPC addresses of Tritons that serve the same model repository, as host:port,host:port."""

    triton_timeout_s: Span = 3.0
    """How long one execution may take there before its requests are refused; more where it is predicted to be slow, and
    the first time. Raise it where Tritons have callers of their own that make yours wait."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where graphs run. `auto` takes a GPU if onnxruntime can really use it; `cuda` refuses to start without one."""

    devices: Annotated[str, Field(pattern=r"^\d+(,\d+)*$")] = "0"
    """Which GPUs run graphs, by CUDA's numbers, as 0,1. Every family is loaded on each; more than one wants `device`
    to be cuda."""

    cuda_graphs: bool = True
    """Record the launches of each trunk and batch size on a GPU once, and replay them. Turn it off where a family
    cannot be recorded, or to save start-up time and GPU memory."""

    num_instances: Positive | None = None
    """Executions that may run at once: one by default, one for each GPU, and four for each Triton, so that none waits
    for the network. More than one helps on many cores; it shrinks every batch."""

    intra_op_threads: Annotated[int, Field(ge=0)] = 0
    """Threads inside one execution; 0 takes every processor that this process may use, by affinity and by its
    container's quota. Lower it to share the machine."""

    max_batch_size: Positive = 64
    """Ceiling on samples in one execution, beside each family's own. Lower it to bound latency and memory."""

    max_queue_delay_s: Seconds = 0.0
    """How long an idle instance waits for a batch to fill. 0 takes what waits: best on a CPU at any load."""

    max_execution_s: Span = 0.1
    """Longest execution that batching aims for, as predicted. Lower it where tight deadlines share the device."""

    hang_timeout_s: Span = 1.5
    """How long an execution may take before its requests fail and its instance is replaced; more where it is predicted
    to be slow; with `triton`, beside `triton_timeout_s`. Raise it where a device pauses for longer."""

    max_pending_samples: Limit = 4096
    """Samples admitted but not yet answered; beyond it requests are refused with a time to retry. `inf` refuses
    none: for measuring tools that a refusal would stop."""

    max_pending_s: Span = 10.0
    """Predicted seconds of admitted work; beyond it requests are refused with a time to retry. Lower it to the time
    for which your callers wait at all; `inf` refuses none."""

    slo_ms: Span | None = None
    """Service level: the time in which 99 of 100 requests of high and normal priority ought to be answered. Set it
    and caps are lowered before requests are refused; without it everyone gets the tape they want."""

    slo_dry_run: bool = False
    """Decide, log and count what the service level would ask for, but change nothing. For looking before leaping."""

    min_tape_high: Annotated[int, Field(ge=0)] = 0
    """Least cap that load may impose on high priority. Raise it to keep some callers' quality."""

    min_tape_normal: Annotated[int, Field(ge=0)] = 0
    """The same for normal priority."""

    min_tape_low: Annotated[int, Field(ge=0)] = 0
    """The same for low priority."""

    shadow_share: Share = 0.0
    """Share of capped answers that are run again at full tape, when idle, to see how often they agree. 0.01 costs
    next to nothing and shows what caps do to your own images."""

    min_agreement: Share = 0.0
    """Least agreement with full tape that a cap may have and still be imposed for load. Needs `shadow_share`."""

    max_request_samples: Positive = 256
    """Samples in one request. Raise it for offline clients that send large batches."""

    drain_delay_s: Seconds = 0.0
    """How long requests are still admitted after a stop signal, while `/readyz` already says no. Set it to the time in
    which load balancers notice: 5 or more in Kubernetes."""

    drain_s: Seconds = 30.0
    """How long accepted requests may take to finish after a stop signal. Keep it below the supervisor's kill time."""

    supervise: CliToggleFlag[bool] = False
    """Run under a parent process that starts the server anew when it crashes or `/healthz` fails. For hosts without an
    orchestrator that does this."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged. `debug` adds a line for each execution."""

    log_format: Literal["text", "json"] = "text"
    """`json` writes one object a line, for machines that collect logs."""

    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = Field(None, repr=False)
    """OpenTelemetry collector (OTLP over HTTP) that gets each request's trace: http://localhost:4318. Off without."""

    @model_validator(mode="before")
    @classmethod
    def _know_every_variable(cls, values: object) -> object:
        """Refuse misspelt environment variables, which would otherwise be ignored in silence."""
        known = {(ENV_PREFIX + name).upper() for name in cls.model_fields}
        ours = {name.upper() for name in os.environ if name.upper().startswith(ENV_PREFIX)}
        unknown = sorted(ours - known - NOT_SETTINGS)
        if unknown:
            raise ValueError(f"environment; got {', '.join(unknown)}; expected any of {', '.join(sorted(known))}")
        return values

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_request_samples > self.max_pending_samples:
            raise ValueError(
                f"max_request_samples; got {self.max_request_samples}; expected at most "
                f"max_pending_samples ({self.max_pending_samples}), else such a request is never admitted"
            )
        if len(self.device_numbers) > 1 and self.device != "cuda":
            raise ValueError(f"devices; got {self.devices} with device {self.device}; expected device cuda")
        if self.fake_faults and self.backend != "fake":
            raise ValueError(f"fake_faults; got {self.fake_faults} with backend {self.backend}; expected backend fake")
        return self

    @property
    def slo_s(self) -> float | None:
        """Return the service level in seconds."""
        return None if self.slo_ms is None else self.slo_ms / 1000

    @property
    def execution_bound_s(self) -> float:
        """Return the longest execution to aim for: with a service level, no more than a quarter of it."""
        return self.max_execution_s if self.slo_s is None else min(self.max_execution_s, self.slo_s / 4)

    @property
    def patience_s(self) -> float:
        """Return how long a backend may take for an execution."""
        return self.triton_timeout_s if self.backend == "triton" else self.hang_timeout_s

    @property
    def grace_s(self) -> float:
        """Return how long a backend that calls late executions off by itself may take to do so."""
        return self.hang_timeout_s if self.backend == "triton" else 0.0

    @property
    def floors(self) -> dict[Priority, int]:
        """Return the least cap that load may impose, by priority."""
        return {
            Priority.HIGH: self.min_tape_high,
            Priority.NORMAL: self.min_tape_normal,
            Priority.LOW: self.min_tape_low,
        }

    @property
    def triton_addresses(self) -> list[str]:
        """Return the addresses of `triton_url`, each once."""
        return list(dict.fromkeys(self.triton_url.split(",")))

    @property
    def max_executions(self) -> int:
        """Return the executions that may run at once, with the default resolved."""
        each = 4 * len(self.triton_addresses) if self.backend == "triton" else len(self.device_numbers)
        return self.num_instances or each

    @property
    def device_numbers(self) -> list[int]:
        """Return the numbers of `devices`, each once."""
        return list(dict.fromkeys(map(int, self.devices.split(","))))

    @property
    def num_threads(self) -> int:
        """Return the threads inside one execution, with 0 resolved to the processors this process may keep busy."""
        return self.intra_op_threads or cgroups.num_cpus()
