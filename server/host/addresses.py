"""Host names, addresses and origins: their form, and which of them only this machine answers."""

import ipaddress
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

_HOST = r"([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?"
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def _split(value: object) -> object:
    """Return the items of a comma-separated list."""
    return list(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value


def _check_host(value: str) -> str:
    if not re.fullmatch(_HOST, value.lower()):
        raise ValueError("a host's name or address, with or without its port, such as models.example or [::1]:8000")
    return value.lower()


def _check_origin(value: str) -> str:
    scheme, separator, host = value.lower().partition("://")
    if scheme not in _DEFAULT_PORTS or not separator or not re.fullmatch(_HOST, host):
        raise ValueError(
            "an origin such as https://app.example or http://localhost:5173: scheme, host and port, nothing behind; "
            "'*' and 'null' would be every page there is"
        )
    return f"{scheme}://{host.removesuffix(_DEFAULT_PORTS[scheme])}"


Hosts = Annotated[tuple[Annotated[str, AfterValidator(_check_host)], ...], NoDecode, BeforeValidator(_split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_check_origin)], ...], NoDecode, BeforeValidator(_split)]


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach an address; a name other than localhost may belong to any machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
