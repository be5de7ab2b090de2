"""The description that a running server gives of a model: its caps and its quality curve."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from loadtest.usage_errors import UsageError

TIMEOUT_S = 10.0
FULL = "full"
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """The published quality curve, at every cap from 0 to the tape capacity.

    Shapes: (tape capacity + 1,) each; straight lines between the points that were measured.
    """

    data: str
    num_samples: int
    accuracy: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True, slots=True)
class Target:
    """A model on a server, as the server describes it."""

    url: str
    model: str
    version: str
    device: str
    height: int
    width: int
    tape_capacity: int
    full_flops: float
    curve: Curve
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What each call shows besides: the API key, where there is one."""

    def caps(self, text: str | None) -> list[int]:
        """Return the caps that a text such as `0,4,8,full` names; a quarter, a half and the rest where it is None.

        Raises: UsageError if it names something else.
        """
        full = self.tape_capacity
        if text is None:
            return sorted({0, full // 4, full // 2, full})
        return list(dict.fromkeys(min(_cap(part.strip(), full), full) for part in text.split(",")))

    def name_of(self, cap: int) -> str:
        """Return a cap as `caps` reads it."""
        return FULL if cap == self.tape_capacity else str(cap)


def _cap(part: str, full: int) -> int:
    if part == FULL:
        return full
    if not part.isdecimal():
        raise UsageError("max-tape", repr(part), "numbers of tape tokens and full, such as 0,4,8,full")
    return int(part)


def find_target(url: str, model: str | None = None, headers: Mapping[str, str] | None = None) -> Target:
    """Ask a server about a model; about its default one where none is named. `headers` show the API key.

    Raises: UsageError if no server answers, or if it has no such model.
    """
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, headers=headers) as client:
            name = model or _checked(client.get("/v1/models"))["default"]
            described = _checked(client.get(f"/v1/models/{name}"))
            curve = _checked(client.get(f"/v1/models/{name}/curve"))
    except (httpx.TransportError, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise UsageError(f"server at {url}", error, "one that runs: make serve") from error
    size = described["preprocessing"]
    if size is None:
        raise UsageError(f"model {name}", "a family of symbols", "one that takes images")
    return Target(
        url=url,
        model=described["name"],
        version=described["version"],
        device=described["device"],
        height=size["height"],
        width=size["width"],
        tape_capacity=described["tape_capacity"],
        full_flops=described["full_flops"],
        curve=to_curve(curve, described["tape_capacity"]),
        headers=headers or {},
    )


def to_curve(document: dict[str, Any], tape_capacity: int) -> Curve:
    """Return a curve, as the server tells it, at every cap."""
    points: Sequence[dict[str, Any]] = sorted(document["points"], key=lambda point: point["cap"])
    caps = [point["cap"] for point in points]

    def at_every_cap(field: str) -> Floats:
        values: Floats = np.interp(np.arange(tape_capacity + 1), caps, [point[field] for point in points])
        return values

    return Curve(
        data=f"{document['data']}, {document['split']}",
        num_samples=document["num_samples"],
        accuracy=at_every_cap("accuracy"),
        low=at_every_cap("accuracy_low"),
        high=at_every_cap("accuracy_high"),
    )


def _checked(response: httpx.Response) -> dict[str, Any]:
    """Return a reply's JSON; what is not JSON comes from another server."""
    try:
        body: dict[str, Any] = response.json()
    except ValueError as error:
        raise UsageError(f"server at {response.url}", f"{response.status_code}, no JSON", "adatape-serve") from error
    if response.is_error:
        raise UsageError(f"server at {response.url}", f"{response.status_code} {body.get('error')}", "an answer")
    return body
