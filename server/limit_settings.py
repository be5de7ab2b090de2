"""The knobs of what one caller may cost the server: sizes, times and counts. A part of `settings`."""

from math import inf
from typing import Annotated, NamedTuple

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from server.host import cgroups

MIB = 1024 * 1024

_MAX_BODY_BYTES = 20 * MIB
_MAX_BODIES_BYTES = 1024 * MIB
_BODIES_SHARE = 4
"""Which part of the memory bodies may fill."""

Positive = Annotated[int, Field(gt=0)]
Span = Annotated[float, Field(gt=0)]
Limit = Positive | Span
"""A whole number, or `inf` for no limit."""
_SMALL_JSON_VALUES = 4096
DEEPEST_JSON = 1024
"""What the parser itself takes."""


def bodies_share(memory_bytes: int) -> int:
    """Return what bodies may hold of so much memory: a part, enough for one, and no more than anybody needs."""
    return min(max(memory_bytes // _BODIES_SHARE, _MAX_BODY_BYTES), _MAX_BODIES_BYTES)


def _a_quarter_of_memory() -> int:
    return bodies_share(cgroups.memory_bytes())


class JsonLimits(NamedTuple):
    """What a JSON document may hold: values, where a list, an object or a key counts as 8, and levels of nesting."""

    max_values: int
    max_depth: int


class LimitSettings(BaseSettings):
    """Each limit has a clear refusal, and one above it costs no other caller more than a moment."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    max_body_bytes: Positive = _MAX_BODY_BYTES
    """Largest request body. Raise it for photos straight from a large camera."""

    max_bodies_bytes: Limit = Field(default_factory=_a_quarter_of_memory)
    """Most bytes of all HTTP request bodies and gRPC messages that the server holds at once, beyond the first 64 KiB of
    each call; more are refused as 503. By default a quarter of the memory that the container or the machine has, 1 GiB
    at most: models and decoding need the rest."""

    max_message_bytes: Positive = 6 * MIB
    """Largest gRPC message, also when decompressed, and never above `max_body_bytes`. Raise it for larger batches: each
    MiB more lets a hostile caller, who sends it in tiny frames, hold up everyone else for some 8 ms more."""

    max_message_fields: Positive = 4096
    """Most fields in a gRPC message, where an input, an output or a parameter counts as 8, and each string of typed
    contents as one. Raise it for batches of very many strings."""

    max_pixels: Positive = 50_000_000
    """Largest decoded image, in pixels: a small file can unfold into gigabytes. Raise it for very large images."""

    max_request_pixels: Positive = 200_000_000
    """Most pixels of all images of one request together: decoding takes a thread about a second for 100 million. Raise
    it for batches of large photos."""

    max_decode_s: Span = 5.0
    """Longest that decoding one image may take, in seconds of the processor's time; more is refused. The largest honest
    photos take one or two: raise it with `max_pixels`, or on a slow machine."""

    max_files: Positive = 64
    """Most images in one classify request. Lower it where memory is short."""

    max_json_values: Positive = 500_000
    """Most values in a JSON document, or in the typed contents of a gRPC message; a list, an object or a key counts as
    8, and 25 bytes are one at least. Parsing holds up everyone else, so beyond this tensors ought to come in binary
    form, and images raw. Raise it where callers send large flat arrays as JSON all the same."""

    max_json_depth: Annotated[int, Field(gt=0, le=DEEPEST_JSON)] = 64
    """Most lists and objects inside one another in a JSON document. Raise it for tensors of very many dimensions."""

    max_header_bytes: Positive = 32 * 1024
    """Largest request line and headers together. Raise it for long cookies or tokens."""

    header_timeout_s: Span = 10.0
    """How long a request's headers may take to arrive. Lower it where slow clients are hostile."""

    body_timeout_s: Span = 60.0
    """How long a request's body may take to arrive, and a caller to take its answer. Raise it for slow uplinks."""

    idle_timeout_s: Span = 75.0
    """How long a connection may stay open without a request. Keep it above a load balancer's own, so that it is never
    we who hang up first."""

    stream_timeout_s: Span = 600.0
    """How long a gRPC stream may go without a whole request. Raise it for callers that ask now and then over one
    stream; `inf` waits for ever."""

    max_connection_age_s: Span = 3600.0
    """After which a gRPC connection is asked to go elsewhere, and `body_timeout_s` later closed, open streams with it:
    it ends callers that nothing else shows to be hostile. `inf` lets all stay; less spreads them over new servers."""

    max_streams: Positive = 1024
    """RPCs open at once on one gRPC connection; more fail as UNAVAILABLE. Raise it for a proxy that sends many callers
    over one connection; lower it where strangers connect directly."""

    max_connections: Limit = 16_384
    """Connections open at once on one port, and RPCs; more are refused. Keep it below the limit of open files."""

    max_connections_per_client: Limit = inf
    """The same for one address. Set it where clients connect directly; behind a proxy all have the proxy's address."""

    @property
    def largest_message_bytes(self) -> int:
        """Return the size of the largest gRPC message that is taken."""
        return min(self.max_message_bytes, self.max_body_bytes)

    @property
    def json_limits(self) -> JsonLimits:
        """Return the limits of the JSON that inferences come in."""
        return JsonLimits(self.max_json_values, self.max_json_depth)

    @property
    def small_json_limits(self) -> JsonLimits:
        """Return those of documents that hold a few names."""
        return JsonLimits(min(_SMALL_JSON_VALUES, self.max_json_values), self.max_json_depth)
