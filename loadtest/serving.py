"""A server process that a harness starts, watches from outside and stops."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_S = 120.0
STOP_S = 60.0
TIMEOUT_S = 30.0
DEFAULT_SERVER = f"{sys.executable} -m server"
Counts = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds. Units: resident bytes that are no file's pages; open descriptors; threads."""

    resident_bytes: int
    num_descriptors: int
    num_threads: int


class Served:
    """One server process: its addresses, its log and what it holds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._has_news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait(self, text: str = "serving url=", timeout_s: float = START_S) -> str:
        """Return the first line of the log that holds a text.

        Raises: SystemExit if the server ends or is silent for too long.
        """
        end_s = time.monotonic() + timeout_s
        with self._has_news:
            while (line := self.find(text)) is None:
                left_s = end_s - time.monotonic()
                if left_s <= 0 or (self.process.poll() is not None and not self._has_news.wait(1.0)):
                    raise SystemExit(f"server; got no {text!r}; expected it in the log:\n" + "".join(self.lines[-20:]))
                self._has_news.wait(min(left_s, 1.0))
        return line

    def find(self, text: str) -> str | None:
        """Return the first line of the log that holds a text."""
        return next((line for line in self.lines if text in line), None)

    @property
    def url(self) -> str:
        return self._address(r"serving url=(\S+)")

    @property
    def grpc(self) -> str:
        return self._address(r" grpc=(\S+)")

    @property
    def pid(self) -> int:
        """Return the process that serves: the one started, or the last that a supervisor started."""
        found = re.findall(r"worker_started pid=(\d+)", "".join(self.lines))
        return int(found[-1]) if found else self.process.pid

    def footprint(self) -> Footprint:
        """Look at the process."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        numbers = {name: int(value) for name, value in re.findall(r"^(RssAnon|Threads):\s+(\d+)", status, re.MULTILINE)}
        num_descriptors = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        return Footprint(numbers["RssAnon"] * 1024, num_descriptors, numbers["Threads"])

    def counts(self) -> Counts:
        """Return every sample of `/metrics` by its name and labels."""
        return parse_metrics(self.get("/metrics"))

    def get(self, path: str, key: str = "") -> str:
        """Return the body of a page; one try more where it was late, as after a pause of the whole machine."""
        try:
            return self._get(path, key)
        except TimeoutError:
            return self._get(path, key)

    def fetch(self, path: str, key: str = "") -> tuple[int, str]:
        """Return the status and body of a page, whatever the status."""
        try:
            return 200, self.get(path, key)
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def post(self, path: str, document: object = None, key: str = "", timeout_s: float = TIMEOUT_S) -> tuple[int, str]:
        """Return the status and body that a JSON call gets; `key` is the caller's API key."""
        body = b"" if document is None else json.dumps(document).encode()
        headers = {"Content-Type": "application/json", **_to_header(key)}
        request = urllib.request.Request(self.url + path, body, headers, method="POST")  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as reply:  # noqa: S310  # nosec B310
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self) -> int:
        """Ask it to stop; return its exit status, that of a kill if it had to be."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _get(self, path: str, key: str) -> str:
        request = urllib.request.Request(self.url + path, headers=_to_header(key))  # noqa: S310 - our own server
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 - our own  # nosec B310
            return str(reply.read().decode())

    def join(self) -> None:
        """Wait until all of the log is read; a process that it left behind may keep it open."""
        self._reader.join(TIMEOUT_S)

    def _address(self, pattern: str) -> str:
        found = re.findall(pattern, "".join(self.lines))
        return str(found[-1])

    def _read(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as log:
            for line in log:
                with self._has_news:
                    self.lines.append(line)
                    self._has_news.notify_all()


def _to_header(key: str) -> dict[str, str]:
    return {"X-API-Key": key} if key else {}


@contextmanager
def serving(
    *arguments: str, server: str = DEFAULT_SERVER, environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Start a server on free ports, wait until it serves, and stop it in the end."""
    ports = [] if "--port" in arguments else ["--port", "0", "--grpc-port", "0"]
    command = [*shlex.split(server), *ports, *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADATAPE_")}
    kept = dict(environment or kept)
    served = Served(subprocess.Popen(command, env=kept, stderr=subprocess.PIPE, text=True, errors="replace"))
    try:
        served.wait()
        yield served
    finally:
        served.stop()
        served.join()


def parse_metrics(text: str) -> Counts:
    """Read an exposition."""
    counts = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = re.fullmatch(r"(\w+)(?:\{([^}]*)\})? (\S+)(?: #.*)?", line).groups()  # type: ignore[union-attr]
            pairs = frozenset(re.findall(r'(\w+)="([^"]*)"', labels or ""))
            counts[name, pairs] = float(value)
    return counts


def total(counts: Counts, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples that bear these labels."""
    wanted = set(labels.items())
    return sum(value for (found, pairs), value in counts.items() if found == name and wanted <= pairs)


class Shelf:
    """A copy of one family of a model repository, of which new versions can be published and damaged."""

    def __init__(self, source: Path, family: str, folder: Path) -> None:
        self.root, self.family = folder, family
        for part in source.glob(f"{family}*"):
            shutil.copytree(part, folder / part.name)
        self._first = json.loads((folder / family / "1" / "manifest.json").read_text(encoding="utf-8"))

    def publish(self, version: int, *, in_place: bool = False) -> Path:
        """Publish a version with the graphs of the first, all of it at once unless `in_place`; return its folder."""
        folder = self.root / self.family / str(version)
        folder.mkdir()
        partial = folder / ("manifest.json" if in_place else "manifest.partial")
        partial.write_text(json.dumps({**self._first, "version": str(version)}), encoding="utf-8")
        partial.rename(folder / "manifest.json")
        return folder

    def remove(self, version: int) -> None:
        """Take a version away."""
        shutil.rmtree(self.root / self.family / str(version))
