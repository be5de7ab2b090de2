"""Where the versions of families stand between the disk and the callers."""

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """Where a version stands between the disk and the callers."""

    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Status:
    """One version of one family; `reason` says why it is not served."""

    family: str
    version: str
    standing: Standing
    reason: str = ""
