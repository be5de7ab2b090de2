"""The server under test: its two addresses, its model, and the statuses that a check saw."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from loadtest.conformance.expect import Failure, Skip, expect
from loadtest.conformance.http import Http, Response
from loadtest.conformance.messages import Answer, Message, binary_message, json_message, read_answer
from loadtest.conformance.model import Hints, Json, Model
from loadtest.conformance.rpc import Rpc

T = TypeVar("T")
TIMEOUT_S = 20.0
SETTLE_S = 2.0
CONTENT_JSON = "application/json"


@dataclass(slots=True)
class Target:
    """What checks are given. `seen` are the statuses and codes of the running check, in order."""

    http: Http
    model: Model
    extensions: frozenset[str] = frozenset()
    grpc: Rpc | None = None
    seen: list[str] = field(default_factory=list)

    @property
    def rpc(self) -> Rpc:
        if self.grpc is None:
            raise Skip("no gRPC address is given: --grpc HOST:PORT")
        return self.grpc

    def model_path(self, rest: str = "", version: str | None = None, name: str | None = None) -> str:
        """Return the path of the model, or of something below it."""
        path = f"v2/models/{name or self.model.name}"
        path += f"/versions/{version}" if version is not None else ""
        return f"{path}/{rest}" if rest else path

    def infer(self, message: Message, version: str | None = None, **headers: str) -> Response:
        """Post an infer request; `headers` with underscores for dashes."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(self.model_path("infer", version), message.body, {**message.headers, **extra})

    def ask(self, batch: int = 1, **members: object) -> Answer:
        """Make a sound request in JSON and return its answer."""
        return read_answer(self.infer(json_message(self.model.tensors(batch), **members)))

    def ask_binary(self, batch: int = 1, **members: object) -> Answer:
        """Make a sound request in binary and return its answer."""
        return read_answer(self.infer(binary_message(self.model.tensors(batch), **members)))

    def requires(self, extension: str) -> None:
        """Return if the server says that it has an extension.

        Raises: Skip.
        """
        if extension not in self.extensions:
            raise Skip(f"the server does not list the extension {extension}")

    def settled(self, read: Callable[[], T], is_enough: Callable[[T], bool]) -> T:
        """Return what was read once it is enough, or is not after `SETTLE_S`: servers may count after they answer.

        Readings that came too early are not part of what was seen.
        """
        give_up_s = time.monotonic() + SETTLE_S
        num_seen = len(self.seen)
        while not is_enough(found := read()) and time.monotonic() < give_up_s:
            del self.seen[num_seen:]
            time.sleep(SETTLE_S / 100)
        return found

    def is_alive(self) -> None:
        """Return if the server still answers.

        Raises: Failure.
        """
        self.ask_binary()


def expect_refused(response: Response, allowed: range | set[int] = range(400, 500)) -> str:
    """Return the message of a refusal.

    Raises: Failure unless the status is allowed and the body is `{"error": "<text>"}`.
    """
    got = f"status {response.status} {response.body[:120]!r}"
    expect(
        response.status in allowed,
        got,
        "a status of the caller's fault" if isinstance(allowed, range) else f"{allowed}",
    )
    document = response.json()
    is_error = isinstance(document, dict) and isinstance(document.get("error"), str) and bool(document["error"])
    expect(is_error, got, 'the body {"error": "<text>"}')
    return str(document["error"])


def discover(
    http: str,
    grpc: str | None,
    model: str | None,
    hints: Hints,
    *,
    timeout_s: float = TIMEOUT_S,
    shown: Mapping[str, str] = {},
) -> Target:
    """Return a server as it describes itself. `shown` goes with every call, as headers or metadata.

    Raises: Failure if it does not answer, or describes no model that can be used.
    """
    seen: list[str] = []
    client = Http(http, timeout_s, seen.append, shown)
    server = _document(client, "v2")
    name = model or _only_model(client)
    config = _optional(lambda: _document(client, f"v2/models/{name}/config"))
    made = Model.of(_document(client, f"v2/models/{name}"), config, hints)
    rpc = Rpc(grpc, timeout_s, seen.append, shown) if grpc else None
    return Target(client, made, frozenset(map(str, server.get("extensions", []))), rpc, seen)


def _document(client: Http, path: str) -> Json:
    response = client.get(path)
    expect(response.status == 200, f"status {response.status} for {path}", "status 200")
    document: Any = response.json()
    expect(isinstance(document, dict), document, "a JSON object")
    return dict(document)


def _optional(make: Callable[[], Json]) -> Json | None:
    try:
        return make()
    except Failure:
        return None


def _only_model(client: Http) -> str:
    """Return the one model that is ready.

    Raises: Failure if the server does not tell, or has several.
    """
    response = client.post("v2/repository/index", b'{"ready": true}')
    found = response.json() if response.status == 200 else []
    names = sorted({str(each["name"]) for each in found})
    expect(len(names) == 1, f"models {names}", "one, or --model NAME")
    return names[0]
