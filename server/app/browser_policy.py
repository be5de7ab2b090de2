"""Which web pages may have a browser call this server: its own, and those whose origin is listed.

A server that trusts whoever is on its machine trusts every browser there, and with it every page that one shows: a page
may send a request anywhere, under any name that its owner lets point here. So a call without a key is judged by what
its browser says of where it comes from:

    Host                                    the name that the page knows us by: ours, or one that is allowed
    Origin, Sec-Fetch-Site, else Referer    the page's own origin: the same, or a listed one

A browser sets these itself, and no page can have it say otherwise. What is no browser sends none of them but Host.
"""

import re
from functools import lru_cache

from server.errors import Forbidden
from server.host.addresses import is_loopback
from server.http.exchange import AccessLevel, HttpReply, HttpRequest, RawHeaders
from server.settings import Settings

_OWN = frozenset({"same-origin", "none"})
"""What Sec-Fetch-Site says of our own pages, and of what a person typed."""
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
"""What a page may read of an answer's head; receipts are in its body."""


class BrowserPolicy:
    """Judges where a call without a key comes from, and tells browsers which pages may read its answer."""

    def __init__(self, settings: Settings) -> None:
        self._is_judged = settings.trusts_machine or bool(settings.allowed_host)
        self._hosts = frozenset(settings.allowed_host)
        self._is_ours = lru_cache(maxsize=256)(self._judge)
        self._origins = frozenset(settings.cors_origin)

    def check(self, request: HttpRequest, level: AccessLevel) -> None:
        """Return if a call that shows no key may pass a door, as far as its browser is concerned.

        Links from anywhere may lead to what is open to everyone, but under our name only, for then no page can read it.
        Raises: Forbidden.
        """
        if not self._is_judged:
            return
        host = request.header(b"host")
        if host is not None and (len(host) > _LONGEST_HOST or not self._is_ours(host)):
            raise Forbidden("Host", host, "localhost, a loopback address, or one of allowed_host")
        if level is not AccessLevel.OPEN:
            self._check_page(request, host or "")

    def preflight(self, request: HttpRequest) -> HttpReply | None:
        """Return the answer to a browser that asks whether a listed page may call; None for any other call."""
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
        """Return what every answer says of the pages that may read it; nothing where no page is listed."""
        if not self._origins:
            return []
        headers = [(b"vary", b"Origin")]
        if self._is_listed(request):
            origin = request.values(b"origin")[0].encode("latin-1")
            headers += [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", _EXPOSED.encode())]
        return headers

    def _check_page(self, request: HttpRequest, host: str) -> None:
        """Raise Forbidden for a call that a page of somebody else makes."""
        if self._is_listed(request):
            return
        origins, sites = request.values(b"origin"), request.values(b"sec-fetch-site")
        pages = origins or ([] if sites else request.values(b"referer"))
        scheme = request.scope.get("scheme", "http")
        foreign = [page for page in pages if not self._is_own(page, host, scheme)] + [s for s in sites if s not in _OWN]
        if foreign:
            raise Forbidden("a web page's call", foreign[0], "one of this server's own pages, or of cors_origin")

    def _is_own(self, page: str, host: str, scheme: str) -> bool:
        """Say whether a page has the origin that it calls, or one of a name that is allowed."""
        match = _ORIGIN.match(page.lower())
        if match is None:
            return False  # `null`: a page that hides its origin, such as one in a sandbox
        authority = match[2].removesuffix(_SCHEME_PORTS[match[1]])
        return authority == host.lower().removesuffix(_SCHEME_PORTS[scheme]) or self._is_allowed(authority)

    def _judge(self, host: str) -> bool:
        """Say whether a host is this machine, or one that is allowed."""
        name = _name_of(host)
        return is_loopback(name.removeprefix("[").removesuffix("]")) or self._is_allowed(host)

    def _is_allowed(self, host: str) -> bool:
        name = _name_of(host)
        return name in self._hosts or f"{name}{''.join(_PORT.findall(host))}" in self._hosts

    def _is_listed(self, request: HttpRequest) -> bool:
        origins = request.values(b"origin")
        return len(origins) == 1 and origins[0].lower() in self._origins


def _name_of(host: str) -> str:
    """Return a host without its port, in the one form of its name."""
    return _PORT.sub("", host.lower()).removesuffix(".")
