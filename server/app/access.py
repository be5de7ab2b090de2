"""Who may pass which door over HTTP, by the key that they show."""

from server.errors import Forbidden
from server.http.exchange import AccessLevel, HttpRequest, RawHeaders
from server.settings import Settings
from server.tenancy import Tenancy, check_admin, read_key

_QUOTA = (b"x-compute-remaining-flops", b"x-compute-limit-flops")


class HttpAccess:
    """Judges a call before anything of it is read but its head.

    `admin_port` is the resolved port of the admin surface, None where it has none of its own.
    """

    def __init__(self, tenancy: Tenancy, settings: Settings) -> None:
        self._tenancy = tenancy
        self._access = tenancy.authenticator
        self.admin_port = settings.admin_port

    def authorize(self, request: HttpRequest, level: AccessLevel) -> None:
        """Note on a call who makes it; an open door needs no key.

        Raises: Unauthenticated; Forbidden.
        """
        if level is AccessLevel.OPEN:
            return
        request.caller = self._access.identify(read_key(request.values(b"x-api-key"), request.values(b"authorization")))
        if level is AccessLevel.ADMINS:
            self.check_admin(request, request.scope["path"])

    def check_admin(self, request: HttpRequest, what: str) -> None:
        """Return if a call that was let in may do what only admins may, where it came in.

        Raises: Unauthenticated; Forbidden.
        """
        assert request.caller is not None, "A call passes its door first. This is a bug."
        check_admin(request.caller, what)
        if self.admin_port is not None and request.scope["server"][1] != self.admin_port:
            raise Forbidden(what, "a call to the port of everyone", "one to the admin port")

    def quota_headers(self, request: HttpRequest) -> RawHeaders:
        """Return what an answer says of its caller's quota; nothing where there is none."""
        left = None if request.caller is None else self._tenancy.quota_of(request.caller.tenant)
        return [] if left is None else [(name, b"%.0f" % flops) for name, flops in zip(_QUOTA, left, strict=True)]
