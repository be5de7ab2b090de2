"""Who the callers are, what each may spend, and what each has spent."""

from server.tenancy.access import Access, Caller, check_admin, read_key
from server.tenancy.accounts import Account, Bill
from server.tenancy.keys import KeyHash, KeyRing, make_key
from server.tenancy.tenancy import Tenancy
from server.tenancy.tenants_file import ANONYMOUS, TenantPolicy, TenantsFile, read_tenants_file

__all__ = [
    "ANONYMOUS",
    "Access",
    "Account",
    "Bill",
    "Caller",
    "KeyHash",
    "KeyRing",
    "Tenancy",
    "TenantPolicy",
    "TenantsFile",
    "check_admin",
    "make_key",
    "read_key",
    "read_tenants_file",
]
