"""Decides which web pages may make a browser call this server: its own, and those whose origin is listed.

A server that trusts everyone on its machine also trusts every browser there, and so every page that a browser shows: a
page may send a request anywhere, under any host name that its owner lets point to this server. So a request without a
key is checked by what its browser says of the page:

    Host                                    the name that the page uses for this server: this machine's, or a listed one
    Origin, Sec-Fetch-Site, else Referer    the page's own origin: the same one, or a listed one

A browser sets these headers itself, and no page can change them. Other clients send none of them but Host.
"""

import re
from functools import lru_cache

from server.errors import Forbidden
from server.host.addresses import is_loopback
from server.http.exchange import AccessLevel, HttpReply, HttpRequest, RawHeaders
from server.settings import Settings

_OWN = frozenset({"same-origin", "none"})
"""What Sec-Fetch-Site says for our own pages, and for an address that a person typed."""
_SCHEME_PORTS = {"http": ":80", "https": ":443"}
_ORIGIN = re.compile(r"(https?)://([^/?#]*)")
_PORT = re.compile(r":\d*$")
_NAMES = re.compile(r"[\w, -]{0,1000}", re.ASCII)
_PREFLIGHT_S = "600"
_LONGEST_HOST = 300
_EXPOSED = ", ".join(
    [
        "X-Request-Id",
        "Retry-After",
        "Inference-Header-Content-Length",
        "Content-Encoding",
        "X-Compute-Remaining-Flops",
        "X-Compute-Limit-Flops",
    ]
)
"""The headers of an answer that a page may read; receipts are in the body."""


class BrowserPolicy:
    """Checks requests without a key by their web page, and tells browsers which pages may read the answer."""

    def __init__(self, settings: Settings) -> None:
        self._is_checked = settings.trusts_machine or bool(settings.allowed_host)
        self._hosts = frozenset(settings.allowed_host)
        self._is_own_host = lru_cache(maxsize=256)(self._is_own_or_listed_host)
        self._origins = frozenset(settings.cors_origin)

    def check(self, request: HttpRequest, level: AccessLevel) -> None:
        """Return if the web page behind a request without a key, if there is one, may reach a route of this level.

        Any page may link to an open route, but only under our own name: then the page cannot read the answer.
        Raises: Forbidden.
        """
        if not self._is_checked:
            return
        host = request.header(b"host")
        if host is not None and (len(host) > _LONGEST_HOST or not self._is_own_host(host)):
            raise Forbidden("Host", host, "localhost, a loopback address, or one of allowed_host")
        if level is not AccessLevel.OPEN:
            self._check_page(request, host or "")

    def preflight(self, request: HttpRequest) -> HttpReply | None:
        """Return the answer to the CORS preflight of a listed page; None for any other request."""
        if request.scope["method"] != "OPTIONS" or request.header(b"access-control-request-method") is None:
            return None
        if not self._is_listed(request):
            return None
        asked = request.header(b"access-control-request-headers") or ""
        return HttpReply(
            b"",
            content_type="text/plain",
            headers=(
                ("Access-Control-Allow-Methods", "GET, POST"),
                ("Access-Control-Allow-Headers", asked if _NAMES.fullmatch(asked) else ""),
                ("Access-Control-Allow-Private-Network", "true"),
                ("Access-Control-Max-Age", _PREFLIGHT_S),
            ),
        )

    def headers(self, request: HttpRequest) -> RawHeaders:
        """Return the CORS headers of an answer; none where no origin is listed."""
        if not self._origins:
            return []
        headers = [(b"vary", b"Origin")]
        if self._is_listed(request):
            origin = request.values(b"origin")[0].encode("latin-1")
            headers += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED.encode())]
        return headers

    def _check_page(self, request: HttpRequest, host: str) -> None:
        """Raise Forbidden for a request of a page that is neither ours nor listed."""
        if self._is_listed(request):
            return
        origins, sites = request.values(b"origin"), request.values(b"sec-fetch-site")
        pages = origins or ([] if sites else request.values(b"referer"))
        scheme = request.scope.get("scheme", "http")
        foreign = [page for page in pages if not self._is_own(page, host, scheme)] + [s for s in sites if s not in _OWN]
        if foreign:
            raise Forbidden("a web page's call", foreign[0], "one of this server's own pages, or of cors_origin")

    def _is_own(self, page: str, host: str, scheme: str) -> bool:
        """Say whether a page has the origin that it calls, or a host that is listed."""
        match = _ORIGIN.match(page.lower())
        if match is None:
            return False  # `null`: a page that hides its origin, such as one in a sandbox
        authority = match[2].removesuffix(_SCHEME_PORTS[match[1]])
        return authority == host.lower().removesuffix(_SCHEME_PORTS[scheme]) or self._is_allowed(authority)

    def _is_own_or_listed_host(self, host: str) -> bool:
        """Say whether a host is this machine, or one that is listed."""
        name = _name_of(host)
        return is_loopback(name.removeprefix("[").removesuffix("]")) or self._is_allowed(host)

    def _is_allowed(self, host: str) -> bool:
        name = _name_of(host)
        return name in self._hosts or f"{name}{''.join(_PORT.findall(host))}" in self._hosts

    def _is_listed(self, request: HttpRequest) -> bool:
        origins = request.values(b"origin")
        return len(origins) == 1 and origins[0].lower() in self._origins


def _name_of(host: str) -> str:
    """Return a host without its port, in lower case and without the final dot."""
    return _PORT.sub("", host.lower()).removesuffix(".")
