"""The tenants file: who the tenants are, the hashes of their keys, and what each may spend (docs/security.md)."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from server.host import files
from server.records import Priority
from server.tenancy.keys import KeyHash, KeyRing

ANONYMOUS = "anonymous"
"""The tenant of callers without a key, where they may call at all."""
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_BURST_S = 10.0
MAX_BYTES = 4 * 1024 * 1024
"""A file of ten thousand tenants is smaller."""
_MAX_DOTS = 64
_MOST = 2**31 - 1


def _parse_line(value: object) -> KeyHash:
    return KeyHash.parse(value if isinstance(value, str) else "")


HashLine = Annotated[KeyHash, BeforeValidator(_parse_line)]
# Strict: `true` is no number, and neither is "5". Bounded, so that neither ten seconds' worth nor a wait is infinite.
Flops = Annotated[float, Field(ge=1e-9, le=1e24, strict=True)]
Cap = Annotated[int, Field(ge=0, le=_MOST, strict=True)]


class TenantPolicy(BaseModel):
    """What one tenant may do. A quota is set by `flops_per_s`; without it only receipts are added up.

    Units: FLOPs are useful FLOPs, as on receipts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True, use_attribute_docstrings=True)

    keys: tuple[HashLine, ...] = ()
    """Hash lines of its keys. Several at once let a new key come before the old one goes."""

    weight: Annotated[float, Field(gt=0, le=1000, strict=True)] = 1.0
    """Its share of the device while tenants compete, against the weights of the others."""

    flops_per_s: Flops | None = None
    """FLOPs a second that its quota refills with."""

    burst_flops: Flops | None = None
    """FLOPs that its quota holds at most; by default what refills in ten seconds."""

    soft_share: Annotated[float, Field(ge=0, le=1, strict=True)] = 0.25
    """Share of the burst below which caps shrink, the more the less is left, before anything is refused."""

    max_tape: Cap | None = None
    """Ceiling on the caps of its samples."""

    min_tape: Cap = 0
    """Floor below which neither load nor a low quota may take them."""

    max_priority: Priority = Priority.HIGH
    """The most urgent that its requests may be; what asks for more is treated as this."""

    max_pending_samples: Annotated[int, Field(gt=0, le=_MOST, strict=True)] | None = None
    """Samples that it may have admitted and not yet answered."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.max_tape is not None and self.min_tape > self.max_tape:
            raise ValueError(f"min_tape; got {self.min_tape}; expected at most max_tape ({self.max_tape})")
        if self.burst_flops is not None and self.flops_per_s is None:
            raise ValueError("burst_flops; got no flops_per_s beside it; expected both")
        return self

    @property
    def burst(self) -> float:
        """Return the FLOPs that a full quota holds."""
        return self.burst_flops or (self.flops_per_s or 0.0) * _BURST_S


class TenantsFile(BaseModel):
    """The content of a tenants file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenants: dict[str, TenantPolicy] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_labels(self) -> Self:
        for name, policy in self.tenants.items():
            if not _NAME.fullmatch(name):
                raise ValueError(f"tenant; got {name[:64]!r}; expected a name of a-z, 0-9, '_', '.' and '-'")
            if name == ANONYMOUS and policy.keys:
                raise ValueError(f"keys of {ANONYMOUS}; got some; expected none: it is the tenant of callers without")
        return self

    def policy(self, tenant: str) -> TenantPolicy:
        """Return a tenant's policy; one that the file does not name has no limits."""
        return self.tenants.get(tenant, _NO_LIMITS)


_NO_LIMITS = TenantPolicy()


def read_tenants_file(path: Path | None, api_keys: str | None) -> tuple[TenantsFile, KeyRing]:
    """Read the tenants file and the hash lines that came beside it.

    Raises: ValueError, naming the place that is wrong and never what stands there, for it might be a key.
    """
    tenants_file = TenantsFile() if path is None else _read_file(path)
    known = [(name, key) for name, policy in tenants_file.tenants.items() for key in policy.keys]
    return tenants_file, KeyRing([*known, *_read_keys(api_keys or "", tenants_file if path else None)])


def _read_file(path: Path) -> TenantsFile:
    try:
        text = files.read(path, MAX_BYTES).decode("utf-8")
        _check_depth(text)
        document: dict[str, Any] = tomllib.loads(text)
    except OSError as error:
        raise ValueError(f"tenants_file; got {path}: {error.strerror}; expected a file that can be read") from error
    except RecursionError:
        raise ValueError(f"tenants_file; got {path}: lists in lists in lists; expected a few levels") from None
    except _TooDeep as error:
        raise ValueError(f"tenants_file; got {path}: {error}") from None
    except ValueError as error:  # of TOML, UTF-8, or a number of too many digits
        # A TOML error may quote the line, and the line may hold a key.
        raise ValueError(f"tenants_file; got {path}, which is no TOML{_place(error)}; expected TOML") from None
    try:
        return TenantsFile.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in fault["loc"]) or "tenants"
        message = str(fault["msg"]).removeprefix("Value error, ")
        raise ValueError(f"tenants_file {path}, {place}: {message}") from None


class _TooDeep(ValueError):
    pass


def _check_depth(text: str) -> None:
    """Refuse names of very many parts, `a.a.a.…`: the parser's time grows with the square of their number."""
    for number, line in enumerate(text.splitlines(), start=1):
        if line.count(".") > _MAX_DOTS and not line.lstrip().startswith("#"):
            raise _TooDeep(f"line {number} has {line.count('.')} dots; expected at most {_MAX_DOTS}")


def _place(error: Exception) -> str:
    match = re.search(r"\(at line \d+, column \d+\)", str(error))
    return f" {match.group()}" if match else ""


def _read_keys(text: str, tenants_file: TenantsFile | None) -> Iterator[tuple[str, KeyHash]]:
    """Read TENANT=LINE,TENANT=LINE; where there is a tenants file it must name them."""
    for number, item in enumerate(filter(None, map(str.strip, text.split(","))), start=1):
        tenant, equals, line = item.partition("=")
        if not equals or not _NAME.fullmatch(tenant) or tenant == ANONYMOUS:
            raise ValueError(f"api_keys, item {number}; got something else; expected TENANT=LINE")
        if tenants_file is not None and tenant not in tenants_file.tenants:
            raise ValueError(f"api_keys, item {number}; got tenant {tenant}; expected one of the tenants file")
        yield tenant, KeyHash.parse(line)
