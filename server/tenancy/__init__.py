"""Who the callers are, what each may spend, and what each has spent."""

from server.tenancy.access import Access, Caller, check_admin
from server.tenancy.accounts import Account, Bill
from server.tenancy.keys import KeyHash, KeyRing, make_key
from server.tenancy.roster import ANONYMOUS, Roster, TenantPolicy, read_roster
from server.tenancy.tenancy import Tenancy

__all__ = [
    "ANONYMOUS",
    "Access",
    "Account",
    "Bill",
    "Caller",
    "KeyHash",
    "KeyRing",
    "Roster",
    "Tenancy",
    "TenantPolicy",
    "check_admin",
    "make_key",
    "read_roster",
]
