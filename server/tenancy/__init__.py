"""Tenants: their keys, their quotas, and the stores that keep their usage across restarts."""

from server.tenancy.accounts import Account, Bill
from server.tenancy.authentication import Authenticator, Caller, check_admin, read_key
from server.tenancy.keys import KeyHash, KeyRing, make_key
from server.tenancy.tenancy import Tenancy
from server.tenancy.tenants_file import ANONYMOUS, TenantPolicy, TenantsFile, read_tenants_file

__all__ = [
    "ANONYMOUS",
    "Account",
    "Authenticator",
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
