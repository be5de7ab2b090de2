"""Who may call which path over HTTP."""

from dataclasses import replace

from server.errors import Forbidden
from server.settings import Settings
from server.tenancy import Tenancy, check_admin
from server.wire import Call, Reply

_OPEN = frozenset(
    {"/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs", "/v2/health/live", "/v2/health/ready"}
)
_OPEN_FOLDERS = ("/docs/", "/static/")
_ADMIN = frozenset({"/v1/controller", "/v1/keys"})
_ADMIN_FOLDER = "/v2/repository/models/"
_QUOTA = ("X-Compute-Remaining-Flops", "X-Compute-Limit-Flops")
_BEARER = "bearer "


class HttpAccess:
    """Judges a call before anything of it is read but its head.

    `admin_port` is the resolved port of the admin surface, None where it has none of its own.
    """

    def __init__(self, tenancy: Tenancy, settings: Settings) -> None:
        self._tenancy = tenancy
        self._access = tenancy.access
        self.admin_port = settings.admin_port

    def admit(self, call: Call) -> None:
        """Note on a call who makes it.

        What orchestrators, scrapers and newcomers ask needs no key: it tells nothing of anyone's images.
        Raises: Unauthenticated; Forbidden.
        """
        path: str = call.scope["path"]
        if path in _OPEN or path.startswith(_OPEN_FOLDERS):
            return
        caller = call.caller = self._access.identify(key_of(call))
        if path in _ADMIN or path.startswith(_ADMIN_FOLDER):
            check_admin(caller, path)
            if self.admin_port is not None and call.scope["server"][1] != self.admin_port:
                raise Forbidden(path, "a call to the port of everyone", "one to the admin port")

    def with_quota(self, reply: Reply, call: Call) -> Reply:
        """Return a reply that says what is left of its caller's quota, if there is one."""
        left = None if call.caller is None else self._tenancy.quota_of(call.caller.tenant)
        if left is None:
            return reply
        said = tuple((name, f"{flops:.0f}") for name, flops in zip(_QUOTA, left, strict=True))
        return replace(reply, headers=(*reply.headers, *said))


def key_of(call: Call) -> str | None:
    """Return the key that a call shows, None if it shows none."""
    key = call.header(b"x-api-key")
    if key is None:
        credentials = call.header(b"authorization")
        if credentials is not None and credentials[: len(_BEARER)].lower() == _BEARER:
            key = credentials[len(_BEARER) :].strip()
    return key
