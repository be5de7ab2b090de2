"""Three tenants with keys: an admin, who reloads, a steady one under a ceiling, and a frugal one that is soon spent."""

import re
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

FRUGAL_FLOPS_PER_S = 5e6
"""A few small images a minute."""
ADMIN, STEADY, FRUGAL = "operators", "steady", "frugal"
STEADY_CEILING = 8


@dataclass(frozen=True, slots=True)
class Tenants:
    """The keys by tenant, and the file that makes them known."""

    keys: dict[str, str]
    path: Path

    @property
    def admin_key(self) -> str:
        return self.keys[ADMIN]

    @property
    def frugal_key(self) -> str:
        return self.keys[FRUGAL]

    def arguments(self) -> list[str]:
        """Return what tells the server of them."""
        return ["--tenants-file", str(self.path), "--quota-store", f"sqlite:{self.path.with_name('quota.sqlite3')}"]


def make_tenants(server: str, folder: Path, *, flops_per_s: float = FRUGAL_FLOPS_PER_S, quota: str = "") -> Tenants:
    """Let the server's own command make the keys, and write the tenants file; `quota` adds lines to the frugal one's.

    Units: FLOPs a second.
    """
    made = {ADMIN: _make_key(server, "--admin"), STEADY: _make_key(server), FRUGAL: _make_key(server)}
    more = {STEADY: f"max_tape = {STEADY_CEILING}\nweight = 2", FRUGAL: f"flops_per_s = {flops_per_s:g}\n{quota}"}
    tables = [f'[tenants.{name}]\nkeys = ["{line}"]\n{more.get(name, "")}\n' for name, (_, line) in made.items()]
    path = folder / "tenants.toml"
    path.write_text("\n".join(tables), encoding="utf-8")
    return Tenants({name: key for name, (key, _) in made.items()}, path)


def _make_key(server: str, *options: str) -> tuple[str, str]:
    command = shlex.split(server)
    command[command.index("server")] = "server.tenancy.__main__"
    text = subprocess.run([*command, *options], capture_output=True, text=True, check=True).stdout
    found = re.search(r"key\s+(\S+)\s+hash line\s+(\S+)", text)
    assert found, text
    return found.group(1), found.group(2)
