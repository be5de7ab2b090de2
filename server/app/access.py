"""Checks over HTTP whether the caller, by the key that a request shows, may reach a route."""

from server.errors import Forbidden
from server.http.exchange import AccessLevel, HttpRequest, RawHeaders
from server.settings import Settings
from server.tenancy import Tenancy, check_admin, read_key

_QUOTA = (b"x-compute-remaining-flops", b"x-compute-limit-flops")


class HttpAccess:
    """Finds each request's caller from its headers, and checks the caller's rights before the body is read.

    `admin_port` is the resolved port that admins must use, None where they use the port of everyone.
    """

    def __init__(self, tenancy: Tenancy, settings: Settings) -> None:
        self._tenancy = tenancy
        self._access = tenancy.authenticator
        self.admin_port = settings.admin_port

    def authorize(self, request: HttpRequest, level: AccessLevel) -> None:
        """Store on a request who makes it, and return if they may reach a route of this level.

        Raises: Unauthenticated; Forbidden.
        """
        if level is AccessLevel.OPEN:
            return
        request.caller = self._access.identify(read_key(request.values(b"x-api-key"), request.values(b"authorization")))
        if level is AccessLevel.ADMINS:
            self.check_admin(request, request.scope["path"])

    def check_admin(self, request: HttpRequest, what: str) -> None:
        """Return if the caller is an admin, and came over the admin port where there is one.

        Raises: Unauthenticated; Forbidden.
        """
        assert request.caller is not None, "A request is authorized first. This is a bug."
        check_admin(request.caller, what)
        if self.admin_port is not None and request.scope["server"][1] != self.admin_port:
            raise Forbidden(what, "a call to the port of everyone", "one to the admin port")

    def quota_headers(self, request: HttpRequest) -> RawHeaders:
        """Return the headers that state the caller's quota; none where the caller has no quota."""
        left = None if request.caller is None else self._tenancy.quota_of(request.caller.tenant)
        return [] if left is None else [(name, b"%.0f" % flops) for name, flops in zip(_QUOTA, left, strict=True)]
