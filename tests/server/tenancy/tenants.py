"""Tenants for tests: keys made once, and a tenants file that holds them."""

from pathlib import Path
from typing import Any

from server.tenancy import make_key

ACME, ACME_HASH = make_key()
ZETA, ZETA_HASH = make_key()
ADMIN, ADMIN_HASH = make_key(is_admin=True)
STRANGER, _ = make_key()


def write_tenants(folder: Path, **limits: str) -> Path:
    """Write a file with acme, zeta and ops, an admin; `limits` are further lines by tenant."""
    hashes = {"acme": ACME_HASH, "zeta": ZETA_HASH, "ops": ADMIN_HASH}
    tables = [f'[tenants.{name}]\nkeys = ["{kept.line}"]\n{limits.get(name, "")}\n' for name, kept in hashes.items()]
    path = folder / "tenants.toml"
    path.write_text(
        "\n".join([*tables, *([f"[tenants.anonymous]\n{limits['anonymous']}"] if "anonymous" in limits else [])])
    )
    return path


def access(folder: Path, *, limits: dict[str, str] | None = None, **settings: Any) -> dict[str, Any]:
    """Return settings with those tenants."""
    path = write_tenants(folder, **(limits or {}))
    return {"tenants_file": path, "require_auth": True, "quota_store": "memory", **settings}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}
