"""Who calls, and whether they may: one rule for HTTP and for gRPC."""

from collections.abc import Sequence
from dataclasses import dataclass

from server.errors import Forbidden, Unauthenticated
from server.tenancy.keys import KeyRing
from server.tenancy.tenants_file import ANONYMOUS

_WAYS_IN = "one in Authorization: Bearer or X-API-Key"
_BEARER = "bearer "


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: a tenant, and whether as an admin. `has_key` is false for callers that need no key on this machine."""

    tenant: str
    is_admin: bool
    has_key: bool = True


class Authenticator:
    """Finds the caller that a key belongs to. `ring` may be replaced at any time."""

    def __init__(self, ring: KeyRing, *, has_keys: bool, require_auth: bool, is_public: bool) -> None:
        """Without keys everyone is anonymous, and an admin if only this machine can ask."""
        self.ring = ring
        self._has_keys = has_keys
        self._require_auth = require_auth
        self._anonymous = Caller(ANONYMOUS, is_admin=not (has_keys or is_public), has_key=False)

    def identify(self, key: str | None) -> Caller:
        """Return the caller with this key, or without one.

        A key that is not known is refused even where none is needed: its sender expects to be known.
        Raises: Unauthenticated; its message does not repeat the key.
        """
        if key is None and self._require_auth:
            raise Unauthenticated("API key", "none", _WAYS_IN)
        if key is None or not self._has_keys:
            return self._anonymous
        owner = self.ring.find(key)
        if owner is None:
            raise Unauthenticated("API key", "one that is not known", _WAYS_IN)
        return Caller(owner.tenant, owner.is_admin)


def read_key(api_keys: Sequence[str], authorizations: Sequence[str]) -> str | None:
    """Return the key among all values of X-API-Key and of Authorization, as headers or as metadata; None without one.

    Raises: Unauthenticated for two values of either, because it is not clear which one is meant.
    """
    if len(api_keys) > 1 or len(authorizations) > 1:
        raise Unauthenticated("API key", "a header of it twice", "each header once")
    if api_keys:
        return api_keys[0]
    if authorizations and authorizations[0][: len(_BEARER)].lower() == _BEARER:
        return authorizations[0][len(_BEARER) :].strip()
    return None


def check_admin(caller: Caller, what: str) -> None:
    """Return if a caller may do what only admins may.

    Raises: Unauthenticated without a key; Forbidden with one that is no admin's.
    """
    if caller.is_admin:
        return
    if caller.tenant == ANONYMOUS:
        raise Unauthenticated(what, "no API key", "an admin's")
    raise Forbidden(what, f"a key of {caller.tenant}", "an admin's key")
