"""Checks over gRPC whether the caller, by the key in an RPC's metadata, may make it."""

import grpc

from server.errors import Forbidden, Unauthenticated
from server.settings import Settings
from server.tenancy import Caller, Tenancy, check_admin, read_key

_OPEN = frozenset({"ServerLive", "ServerReady"})
_ADMIN = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
_QUOTA = ("x-compute-remaining-flops", "x-compute-limit-flops")
Metadata = tuple[tuple[str, str], ...]


class GrpcAccess:
    """Finds each RPC's caller from its metadata, and checks the caller's rights."""

    def __init__(self, tenancy: Tenancy, settings: Settings) -> None:
        self._tenancy = tenancy
        self._access = tenancy.authenticator
        self._has_admin_port = settings.admin_port is not None

    def authorize(self, rpc: str, context: grpc.aio.ServicerContext) -> Caller | None:
        """Return who makes an RPC; None for an RPC that needs no key.

        Raises: Unauthenticated; Forbidden.
        """
        if rpc in _OPEN:
            return None
        caller = self._access.identify(_key_of(context))
        if rpc in _ADMIN:
            check_admin(caller, rpc)
            if self._has_admin_port:
                raise Forbidden(rpc, "a call to the port of everyone", "its HTTP form, on the admin port")
        return caller

    def quota_metadata(self, context: grpc.aio.ServicerContext) -> Metadata:
        """Return the metadata that states the caller's quota, like HTTP's headers; none where there is no quota."""
        try:
            left = self._tenancy.quota_of(self._access.identify(_key_of(context)).tenant)
        except Unauthenticated:
            return ()
        return () if left is None else tuple((name, f"{flops:.0f}") for name, flops in zip(_QUOTA, left, strict=True))


def _key_of(context: grpc.aio.ServicerContext) -> str | None:
    """Return the key that an RPC brings in its metadata, as HTTP does in its headers.

    Raises: Unauthenticated for two.
    """
    metadata = context.invocation_metadata() or ()
    api_keys, authorizations = (
        [str(value) for name, value in metadata if name == each] for each in ("x-api-key", "authorization")
    )
    return read_key(api_keys, authorizations)
