"""Checks a request's head: each thing that two servers could read differently must be said once and clearly.

Where a proxy and this server read one head in two ways, an attacker can pass a request through the proxy that the
proxy does not see (RFC 9112, 11.2). Pure functions.
"""

import re

from server.errors import BadRequest, ExpectationFailed

RawHeaders = list[tuple[bytes, bytes]]
_VERSIONS = ("1.0", "1.1")
_HOST = re.compile(rb"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)
_CONTINUE = "100-continue"
_CHECKED = frozenset({b"host", b"transfer-encoding", b"content-length", b"expect"})
Found = dict[bytes, list[bytes]]


def check_head(version: str, target: bytes, headers: RawHeaders, *, is_upgrade: bool) -> None:
    """Return if a head can be read in one way only; a host in the target replaces the Host header.

    `headers` have lower-case names, and may be changed in place.
    Raises: BadRequest; ExpectationFailed.
    """
    if version not in _VERSIONS:
        raise BadRequest("HTTP version", version, "1.1 or 1.0")
    found: Found = {}
    for name, value in headers:
        if name in _CHECKED:
            found.setdefault(name, []).append(value)
    _check_host(version, target, headers, found.get(b"host", []))
    _check_framing(version, found, is_upgrade=is_upgrade)
    if version == "1.1":
        _check_expectation(found.get(b"expect", []))


def _check_host(version: str, target: bytes, headers: RawHeaders, hosts: list[bytes]) -> None:
    if len(hosts) > 1:
        raise BadRequest("Host", f"{len(hosts)} of them", "one")
    if not hosts and version == "1.1":
        raise BadRequest("Host", "none", "one")
    if not target.startswith(b"/") and target != b"*":
        absolute = _ABSOLUTE.match(target)
        if absolute is None:
            raise BadRequest("request target", target.decode("latin-1"), "a path, or an http URL")
        hosts = [absolute[1]]
        headers[:] = [*(each for each in headers if each[0] != b"host"), (b"host", absolute[1])]
    for host in hosts:
        if not _HOST.fullmatch(host):
            got = host.decode("latin-1") or "an empty one"
            raise BadRequest("Host", got, "a host's name or address, with or without a port")


def _check_framing(version: str, found: Found, *, is_upgrade: bool) -> None:
    """Raise BadRequest where it is not clear where the body ends; the parser has refused most of this."""
    codings, lengths = found.get(b"transfer-encoding", []), found.get(b"content-length", [])
    if codings and (len(codings) > 1 or codings[0].strip().lower() != b"chunked"):
        raise BadRequest("Transfer-Encoding", b", ".join(codings).decode("latin-1"), "chunked once, or none")
    if codings and version != "1.1":
        raise BadRequest("Transfer-Encoding", f"one over HTTP/{version}", "one over HTTP/1.1, or Content-Length")
    if codings and lengths:
        raise BadRequest("Content-Length", "one beside Transfer-Encoding", "one of the two")
    # The parser takes what follows such a head for another protocol.
    if is_upgrade and (codings or any(length.strip() != b"0" for length in lengths)):
        raise BadRequest("Upgrade", "one with a body", "a body, or an upgrade, which is not done here")


def _check_expectation(expectations: list[bytes]) -> None:
    for value in expectations:
        if value.strip().lower() != _CONTINUE.encode():
            raise ExpectationFailed("Expect", value.decode("latin-1"), f"{_CONTINUE}, or none")
