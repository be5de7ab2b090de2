"""The API key that a tool sends: from an option or the environment. It is never printed."""

import os
from collections.abc import Mapping
from types import MappingProxyType

from loadtest.usage_errors import UsageError

VARIABLE = "ADATAPE_API_KEY"
OPTION = "--api-key"
HELP = f"API key to send; better set {VARIABLE} in the environment, which a list of processes does not show"


class ApiKey(str):
    """A key that does not show in a repr, and so in no traceback, report or list of options."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ApiKey(...)"


def to_headers(given: str | None) -> Mapping[str, str]:
    """Return the headers, or gRPC metadata, that show a key; none without one, given or in the environment.

    Raises: UsageError if it could be no key; the message does not hold it.
    """
    key = given or os.environ.get(VARIABLE, "")
    if not key:
        return MappingProxyType({})
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("API key", "characters that no key has", "one line of letters, digits and signs")
    return MappingProxyType({"x-api-key": ApiKey(key)})
