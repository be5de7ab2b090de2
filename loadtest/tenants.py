"""Two tenants with keys: an admin, who reloads, and a frugal one, whose quota is soon spent."""

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

FRUGAL_FLOPS_PER_S = 5e6
"""A few small images a second."""


@dataclass(frozen=True, slots=True)
class Tenants:
    """The keys, and the file that makes them known."""

    admin_key: str
    frugal_key: str
    path: Path

    def arguments(self) -> list[str]:
        """Return what tells the server of them."""
        return ["--tenants-file", str(self.path), "--quota-store", f"sqlite:{self.path.with_name('quota.sqlite3')}"]


def make_tenants(server: str, folder: Path, *, flops_per_s: float = FRUGAL_FLOPS_PER_S, quota: str = "") -> Tenants:
    """Let the server's own command make the keys, and write the tenants file; `quota` adds lines to the frugal one's.

    Units: FLOPs a second.
    """
    admin_key, admin_line = _make_key(server, "--admin")
    frugal_key, frugal_line = _make_key(server)
    path = folder / "tenants.toml"
    path.write_text(
        f'[tenants.operators]\nkeys = ["{admin_line}"]\n\n'
        f'[tenants.frugal]\nkeys = ["{frugal_line}"]\nflops_per_s = {flops_per_s:g}\n{quota}\n',
        encoding="utf-8",
    )
    return Tenants(admin_key, frugal_key, path)


def _make_key(server: str, *options: str) -> tuple[str, str]:
    command = shlex.split(server)
    command[command.index("server")] = "server.keys"
    text = subprocess.run([*command, *options], capture_output=True, text=True, check=True).stdout
    found = re.search(r"key\s+(\S+)\s+hash line\s+(\S+)", text)
    assert found, text
    return found.group(1), found.group(2)
