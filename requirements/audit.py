"""`python requirements/audit.py`: look each locked package up in a database of known vulnerabilities.

Exit status 1 if one is vulnerable. Where the database cannot be asked, or does not know a package, that is said and
counted as not checked, and the status is 0, so that builds without internet go on; `--strict` makes it 1.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCKS = ("server", "client", "train", "dev")
TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found out about one package of one lock; a package with neither text is not known to be vulnerable."""

    package: str
    vulnerabilities: str = ""
    not_checked: str = ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit the locks and return the exit status."""
    options = _parse(arguments)
    findings = {lock: list(audit(lock)) for lock in options.locks}
    everything = [finding for each in findings.values() for finding in each]
    for lock, each in findings.items():
        print("\n".join(lines(lock, each)))
    num_vulnerable = sum(bool(finding.vulnerabilities) for finding in everything)
    num_not_checked = sum(bool(finding.not_checked) for finding in everything)
    verdict = "FAIL" if num_vulnerable else "NOT CHECKED" if num_not_checked else "PASS"
    num_checked = len(everything) - num_not_checked
    print(f"audit: {verdict}: {num_checked} of {len(everything)} packages checked, {num_vulnerable} vulnerable")
    return int(num_vulnerable > 0 or (options.strict and num_not_checked > 0))


def audit(lock: str) -> Iterator[Finding]:
    """Ask pip-audit about one lock; if it comes to nothing, that is the one finding."""
    path = Path(__file__).with_name(f"{lock}.txt")
    command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format=json", "-r", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        yield Finding(f"all of {path.name}", not_checked=f"no answer from the database within {TIMEOUT_S:g} s")
        return
    try:
        dependencies = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        yield Finding(f"all of {path.name}", not_checked=f"pip-audit gave up: {last[:200]}")
        return
    yield from map(to_finding, dependencies)


def to_finding(dependency: dict[str, Any]) -> Finding:
    """Read what pip-audit says of one package."""
    if "skip_reason" in dependency:
        return Finding(dependency["name"], not_checked=dependency["skip_reason"])
    package = f"{dependency['name']} {dependency['version']}"
    return Finding(package, ", ".join(vulnerability["id"] for vulnerability in dependency["vulns"]))


def lines(lock: str, findings: Sequence[Finding]) -> list[str]:
    """Return what to print of one lock: a summary, each vulnerable package, and one reason for all not checked."""
    vulnerable = [finding for finding in findings if finding.vulnerabilities]
    skipped = [finding for finding in findings if finding.not_checked]
    text = [f"{lock}: {len(findings)} packages, {len(vulnerable)} vulnerable, {len(skipped)} not checked"]
    text += [f"  VULNERABLE {finding.package}: {finding.vulnerabilities}" for finding in vulnerable]
    if skipped:
        text.append(f"  NOT CHECKED {skipped[0].package} and {len(skipped) - 1} more: {skipped[0].not_checked}")
    return text


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    description, _, epilog = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="requirements/audit.py", description=description, epilog=epilog)
    parser.add_argument("locks", nargs="*", default=LOCKS, help="locks to audit, such as server (default: all)")
    parser.add_argument("--strict", action="store_true", help="fail also where a package was not checked")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
