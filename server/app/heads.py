"""What the head of a request must say, once and clearly, before anybody acts on it: pure.

What two servers in a row can read in two ways, a stranger can use to slip a request past the first (RFC 9112, 11.2).
"""

import re

from server.errors import BadRequest, ExpectationFailed

RawHeaders = list[tuple[bytes, bytes]]
_VERSIONS = ("1.0", "1.1")
_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_CONTINUE = "100-continue"


def check_head(version: str, target: bytes, headers: RawHeaders, *, is_upgrade: bool) -> None:
    """Return if a head can be read in one way only; a host in its target takes the place of the header.

    Header names are in lower case.
    Raises: BadRequest; ExpectationFailed.
    """
    if version not in _VERSIONS:
        raise BadRequest("HTTP version", version, "1.1 or 1.0")
    _check_host(version, target, headers)
    _check_framing(version, headers, is_upgrade=is_upgrade)
    if version == "1.1":
        _check_expectation(headers)


def _check_host(version: str, target: bytes, headers: RawHeaders) -> None:
    hosts = _values(headers, b"host")
    if len(hosts) > 1:
        raise BadRequest("Host", f"{len(hosts)} of them", "one")
    if not hosts and version == "1.1":
        raise BadRequest("Host", "none", "one")
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        hosts = [absolute[1]]
        headers[:] = [*(each for each in headers if each[0] != b"host"), (b"host", absolute[1])]
    elif not target.startswith(b"/") and target != b"*":
        raise BadRequest("request target", target.decode("latin-1"), "a path, or an http URL")
    for host in hosts:
        if not _HOST.fullmatch(host):
            got = host.decode("latin-1") or "an empty one"
            raise BadRequest("Host", got, "a host's name or address, with or without a port")


def _check_framing(version: str, headers: RawHeaders, *, is_upgrade: bool) -> None:
    """Raise BadRequest where it is not clear where the body ends; the parser has refused most of this."""
    codings, lengths = _values(headers, b"transfer-encoding"), _values(headers, b"content-length")
    if codings and (len(codings) > 1 or codings[0].strip().lower() != b"chunked"):
        raise BadRequest("Transfer-Encoding", b", ".join(codings).decode("latin-1"), "chunked once, or none")
    if codings and version != "1.1":
        raise BadRequest("Transfer-Encoding", f"one over HTTP/{version}", "one over HTTP/1.1, or Content-Length")
    if codings and lengths:
        raise BadRequest("Content-Length", "one beside Transfer-Encoding", "one of the two")
    # The parser takes what follows such a head for another protocol.
    if is_upgrade and (codings or any(length.strip() != b"0" for length in lengths)):
        raise BadRequest("Upgrade", "one with a body", "a body, or an upgrade, which is not done here")


def _check_expectation(headers: RawHeaders) -> None:
    for value in _values(headers, b"expect"):
        if value.strip().lower() != _CONTINUE.encode():
            raise ExpectationFailed("Expect", value.decode("latin-1"), f"{_CONTINUE}, or none")


def _values(headers: RawHeaders, name: bytes) -> list[bytes]:
    return [value for each, value in headers if each == name]
