"""The settings of the server, in groups. Each field says why one would change it.

Values come from keyword arguments, then `ADATAPE_*` environment variables, then the defaults. A field with repr=False
may hold a secret: its value is shown nowhere.
"""

import os
from math import inf
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, CliToggleFlag, SettingsConfigDict

from server.host import cgroups
from server.host.addresses import Hosts, Origins, is_loopback
from server.records import Priority

ENV_PREFIX = "ADATAPE_"
NOT_SETTINGS = {"ADATAPE_DATA", "ADATAPE_API_KEY"}
"""Variables with our prefix that are for other commands."""
MIB = 1024 * 1024
DEEPEST_JSON = 1024
"""The deepest nesting that the parser itself accepts."""
_MAX_BODY_BYTES = 20 * MIB
_SMALL_JSON_VALUES = 4096
_FAULT = r"(raise|hang|nan|shape|crash|block|oom=[1-9]\d*|slow=\d+(\.\d+)?)"
_FAULTS = rf"^({_FAULT}(,{_FAULT})*)?$"

Positive = Annotated[int, Field(gt=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Limit = Positive | PositiveFloat
"""A whole number, or `inf` for no limit."""
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def bodies_share(memory_bytes: int | None = None) -> int:
    """Return how much of the memory bodies may take: a quarter, but enough for one body, and at most 1 GiB."""
    there_is = cgroups.memory_bytes() if memory_bytes is None else memory_bytes
    return min(max(there_is // 4, _MAX_BODY_BYTES), 1024 * MIB)


class JsonLimits(NamedTuple):
    """What a JSON document may hold: values, where a list, an object or a key counts as 8, and levels of nesting."""

    max_values: int
    max_depth: int


class LimitSettings(BaseSettings):
    """What one caller may use. Each limit has a clear refusal, and a request above it hardly delays other callers."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    # Bodies and messages
    max_body_bytes: Positive = _MAX_BODY_BYTES
    """Largest request body. Raise it for photos straight from a large camera."""
    max_bodies_bytes: Limit = Field(default_factory=bodies_share)
    """Most bytes of all HTTP request bodies and gRPC messages that the server holds at once, beyond the first 64 KiB of
    each call; more are refused as 503. By default a quarter of the memory that the container or the machine has, 1 GiB
    at most: models and decoding need the rest."""
    max_message_bytes: Positive = 6 * MIB
    """Largest gRPC message, also when decompressed, and never above `max_body_bytes`. Raise it for larger batches: each
    MiB more lets a hostile caller, who sends it in tiny frames, hold up everyone else for some 8 ms more."""
    max_message_fields: Positive = 4096
    """Most fields in a gRPC message, where an input, an output or a parameter counts as 8, and each string of typed
    contents as one. Raise it for batches of very many strings."""
    # Images
    max_pixels: Positive = 50_000_000
    """Largest decoded image, in pixels: a small file can expand to gigabytes. Raise it for very large images."""
    max_request_pixels: Positive = 200_000_000
    """Most pixels of all images of one request together: decoding takes a thread about a second for 100 million. Raise
    it for batches of large photos."""
    max_decode_s: PositiveFloat = 5.0
    """Longest that decoding one image may take, in seconds of the processor's time; more is refused. The largest honest
    photos take one or two: raise it with `max_pixels`, or on a slow machine."""
    max_files: Positive = 64
    """Most images in one classify request. Lower it where memory is short."""
    # JSON documents
    max_json_values: Positive = 500_000
    """Most values in a JSON document, or in the typed contents of a gRPC message; a list, an object or a key counts as
    8, and 25 bytes are one at least. Parsing holds up everyone else, so beyond this tensors ought to come in binary
    form, and images raw. Raise it where callers send large flat arrays as JSON all the same."""
    max_json_depth: Annotated[int, Field(gt=0, le=DEEPEST_JSON)] = 64
    """Most lists and objects inside one another in a JSON document. Raise it for tensors of very many dimensions."""
    # Connections
    max_header_bytes: Positive = 32 * 1024
    """Largest request line and headers together. Raise it for long cookies or tokens."""
    header_timeout_s: PositiveFloat = 10.0
    """How long a request's headers may take to arrive. Lower it where slow clients are hostile."""
    body_timeout_s: PositiveFloat = 60.0
    """How long a request's body may take to arrive, and a caller to take its answer. Raise it for slow uplinks."""
    idle_timeout_s: PositiveFloat = 75.0
    """How long a connection may stay open without a request. Keep it above a load balancer's own, so that the
    server never closes it first."""
    stream_timeout_s: PositiveFloat = 600.0
    """How long a gRPC stream may go without a whole request. Raise it for callers that ask now and then over one
    stream; `inf` waits for ever."""
    max_connection_age_s: PositiveFloat = 3600.0
    """After which a gRPC connection is asked to go elsewhere, and `body_timeout_s` later closed, open streams with it:
    it ends callers that nothing else shows to be hostile. `inf` lets all stay; less spreads them over new servers."""
    max_streams: Positive = 1024
    """RPCs open at once on one gRPC connection; more fail as UNAVAILABLE. Raise it for a proxy that sends many callers
    over one connection; lower it where unknown clients connect directly."""
    max_connections: Limit = 16_384
    """Connections open at once on one port, and RPCs; more are refused. Keep it below the limit of open files."""
    max_connections_per_client: Limit = inf
    """The same for one address. Set it where clients connect directly; behind a proxy all have the proxy's address."""

    @property
    def largest_message_bytes(self) -> int:
        """Return the size of the largest gRPC message that is accepted."""
        return min(self.max_message_bytes, self.max_body_bytes)

    @property
    def json_limits(self) -> JsonLimits:
        """Return the limits of JSON documents with tensors or images."""
        return JsonLimits(self.max_json_values, self.max_json_depth)

    @property
    def small_json_limits(self) -> JsonLimits:
        """Return the limits of JSON documents that hold a few names."""
        return JsonLimits(min(_SMALL_JSON_VALUES, self.max_json_values), self.max_json_depth)


class AccessSettings(BaseSettings):
    """Who may call the server, and how.

    Units: `*_s` are seconds.
    Raises: pydantic.ValidationError where anyone could use the server, or no one.
    """

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on. The default answers this machine only; 0.0.0.0 answers everyone who can reach it, and
    needs `require_auth` with keys, or `insecure`."""
    require_auth: CliToggleFlag[bool] = False
    """Refuse calls without an API key. Without it, callers on this machine may ask without one."""
    insecure: CliToggleFlag[bool] = False
    """Answer anyone who can reach a public address, without keys. Only behind something that asks for them itself."""
    # Keys and admins
    tenants_file: Path | None = None
    """TOML file of tenants, the hashes of their API keys and their limits: docs/security.md describes it. It is read
    again when it changes, so keys rotate without a restart."""
    tenants_grace_s: Annotated[float, Field(gt=0)] = 300.0
    """How long the last good tenants file is believed while what is there cannot be read; after that its keys are
    refused. `inf` believes it for ever: where no keys are worse than old ones."""
    api_keys: SecretStr | None = Field(None, repr=False)
    """Hash lines of more keys, as TENANT=LINE,TENANT=LINE: for environments that hand over secrets as variables.
    `python -m server.tenancy` makes both."""
    admin_port: Port | None = None
    """HTTP port of its own for what only admins may do. Set it to keep that off the network that callers use."""
    admin_host: str = "127.0.0.1"
    """Address of `admin_port`."""
    # Browsers
    allowed_host: Hosts = ()
    """Names under which callers reach a server that trusts them for being on its machine, as NAME,NAME:PORT; localhost
    and loopback addresses always are. Set it to what a reverse proxy passes on as Host. Other names are refused there,
    for a web page could use any name; where callers are told apart by keys, only if this is set."""
    cors_origin: Origins = ()
    """Web pages that may call this server from a browser, by their origins, as https://app.example,http://localhost:5173.
    Each may do what its visitor may. Without it only this server's own pages can."""
    # TLS
    tls_cert: Path | None = None
    """PEM file of the certificate chain for HTTPS and gRPC over TLS. Set it where no proxy does it for you."""
    tls_key: Path | None = None
    """PEM file of the certificate's private key."""
    tls_client_ca: Path | None = None
    """PEM file of the authorities whose clients may connect; no others may then."""
    # Quotas
    quota_store: Annotated[str, Field(pattern=r"^(memory|sqlite:.+|rediss?://.+)$", repr=False)] = (
        "sqlite:adatape-quota.sqlite3"
    )
    """Where usage and quotas outlive a restart: `sqlite:PATH`, `redis://HOST:PORT/DB` to share them between several
    servers, or `memory` to forget them. Opened only where there are tenants."""
    quota_sync_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """How often usage is written there and the tenants file is looked at: what a crash may lose, and how long several
    servers may not know of each other's spending."""

    @model_validator(mode="after")
    def _is_neither_open_nor_closed(self) -> Self:
        if self.require_auth and self.insecure:
            raise ValueError("require_auth; got insecure beside it; expected one of the two")
        if self.require_auth and not self.has_keys:
            raise ValueError("require_auth; got no keys; expected tenants_file or api_keys, else nobody could get in")
        if self.is_public and not (self.require_auth or self.insecure):
            raise ValueError(
                f"host; got {self.host}, which others can reach; expected require_auth with keys, or insecure if "
                "something in front of this server decides who may ask"
            )
        return self

    @model_validator(mode="after")
    def _has_all_of_tls(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key; got one of the two; expected both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca; got no tls_cert beside it; expected tls_cert and tls_key too")
        return self

    @property
    def has_keys(self) -> bool:
        return self.tenants_file is not None or self.api_keys is not None

    @property
    def asks_who_calls(self) -> bool:
        """Say whether callers are identified; otherwise everyone may do everything and nothing is counted by caller."""
        return self.has_keys or self.is_public or self.admin_port is not None

    @property
    def trusts_machine(self) -> bool:
        """Say whether callers on this machine need no key; without any keys they are admins, too."""
        return not (self.require_auth or self.is_public)

    @property
    def is_public(self) -> bool:
        """Say whether other machines can connect, by the addresses that the server listens on."""
        return not is_loopback(self.host) or (self.admin_port is not None and not is_loopback(self.admin_host))


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

    # Ports and models
    port: Port = 8000
    """HTTP port. Change it where another program has the default; 0 takes a free one."""
    grpc_port: Port = 8001
    """gRPC port. Change it where another program has the default; 0 takes a free one."""
    model_repository: Path = Path("model_repository")
    """Folder of model families. Point it at your own once you have exported one."""
    # Backends and devices
    backend: Literal["ort", "triton", "fake"] = "ort"
    """What runs the graphs. `triton` sends them to Triton Inference Servers, for more than one machine's worth; `fake`
    answers predictably without weights: for trying the API and for tests."""
    fake_faults: Annotated[str, Field(pattern=_FAULTS)] = ""
    """How the fake backend misbehaves, such as `raise,nan,slow=0.01`: for trying what becomes of requests then. See
    `docs/reliability.md`."""
    triton_url: Annotated[str, Field(pattern=r"^[^\s,:@]+:\d+(,[^\s,:@]+:\d+)*$")] = "127.0.0.1:8011"
    """gRPC addresses of Tritons that serve the same model repository, as host:port,host:port."""
    triton_timeout_s: PositiveFloat = 3.0
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
    # Batches
    max_batch_size: Positive = 64
    """Ceiling on samples in one execution, beside each family's own. Lower it to bound latency and memory."""
    max_queue_delay_s: Seconds = 0.0
    """How long an idle instance waits for a batch to fill. 0 takes what waits: best on a CPU at any load."""
    max_execution_s: PositiveFloat = 0.1
    """Longest execution that batching aims for, as predicted. Lower it where tight deadlines share the device."""
    hang_timeout_s: PositiveFloat = 1.5
    """How long an execution may take before its requests fail and its instance is replaced; more where it is predicted
    to be slow; with `triton`, beside `triton_timeout_s`. Raise it where a device pauses for longer."""
    # Admission and the service level
    max_pending_samples: Limit = 4096
    """Samples admitted but not yet answered; beyond it requests are refused with a time to retry. `inf` refuses
    none: for measuring tools that a refusal would stop."""
    max_pending_s: PositiveFloat = 10.0
    """Predicted seconds of admitted work; beyond it requests are refused with a time to retry. Lower it to the time
    for which your callers wait at all; `inf` refuses none."""
    slo_ms: PositiveFloat | None = None
    """Service level: the time in which 99 of 100 requests of high and normal priority ought to be answered. Set it
    and caps are lowered before requests are refused; without it everyone gets the tape they want."""
    slo_dry_run: bool = False
    """Decide, log and count what the service level would ask for, but change nothing. For a trial."""
    min_tape_high: Annotated[int, Field(ge=0)] = 0
    """Least cap that load may impose on high priority. Raise it to keep some callers' quality."""
    min_tape_normal: Annotated[int, Field(ge=0)] = 0
    """The same for normal priority."""
    min_tape_low: Annotated[int, Field(ge=0)] = 0
    """The same for low priority."""
    shadow_share: Fraction = 0.0
    """Share of capped answers that are run again at full tape, when idle, to see how often they agree. 0.01 costs
    next to nothing and shows what caps do to your own images."""
    min_agreement: Fraction = 0.0
    """Least agreement with full tape that a cap may have and still be imposed for load. Needs `shadow_share`."""
    max_request_samples: Positive = 256
    """Samples in one request. Raise it for offline clients that send large batches."""
    # Stopping and restarting
    drain_delay_s: Seconds = 0.0
    """How long requests are still admitted after a stop signal, while `/readyz` already says no. Set it to the time in
    which load balancers notice: 5 or more in Kubernetes."""
    drain_s: Seconds = 30.0
    """How long accepted requests may take to finish after a stop signal. Keep it below the supervisor's kill time."""
    supervise: CliToggleFlag[bool] = False
    """Run under a parent process that starts the server anew when it crashes or `/healthz` fails. For hosts without an
    orchestrator that does this."""
    # Logs and traces
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged. `debug` adds a line for each execution."""
    log_format: Literal["text", "json"] = "text"
    """`json` writes one object a line, for machines that collect logs."""
    otlp_endpoint: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = Field(None, repr=False)
    """OpenTelemetry collector (OTLP over HTTP) that gets each request's trace: http://localhost:4318. Off without."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: object) -> object:
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
        """Return how much longer a backend may take that cancels late executions by itself."""
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
