"""Starts a program, waits until it is ready, reads its log and stops it, for all tools and tests.

A program writes its standard output and error to a temporary file, its log. It runs in a process group of its own.
`close` ends it and whatever it has started, by their ids.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import httpx

from loadtest.machine import process_tree
from loadtest.metrics import Samples, parse_metrics

ROOT = Path(__file__).parents[1]
START_S = 120.0
STOP_S = 60.0
TIMEOUT_S = 30.0
POLL_S = 0.005
DEFAULT_SERVER = f"{sys.executable} -m server"
T = TypeVar("T")


def wait_until(read: Callable[[], T | None], within_s: float, what: str, poll_s: float = POLL_S) -> T:
    """Call a function again and again until it returns something true; return that.

    Raises: SystemExit if it does not in time.
    """
    end_s = time.monotonic() + within_s
    while not (value := read()):
        if time.monotonic() > end_s:
            raise SystemExit(f"{what}; got nothing within {within_s:g} s; expected it to come")
        time.sleep(poll_s)
    return value


@dataclass(frozen=True, slots=True)
class Footprint:
    """What a process holds. Units: resident bytes that are no file's pages; open descriptors; threads."""

    resident_bytes: int
    num_descriptors: int
    num_threads: int


class Process:
    """A program that was started, and its log. Use it as a context manager, or call `close` in the end."""

    def __init__(
        self, command: Sequence[str | Path], *, folder: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._text: str | None = None
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def log(self) -> str:
        """Return all that it has written until now."""
        if self._text is not None:
            return self._text
        descriptor = self._log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        """Return the complete lines of the log."""
        return self.log.split("\n")[:-1]

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    def find(self, text: str) -> str | None:
        """Return the first line of the log that holds a text."""
        return next((line for line in self.lines if text in line), None)

    def wait_for_log(self, text: str, within_s: float = START_S) -> str:
        """Return the first line of the log that holds a text, once there is one.

        Raises: SystemExit if the program ends before, or the line does not come in time.
        """
        return self.wait_until(lambda: self.find(text), within_s, f"a line with {text!r}")

    def wait_until(self, read: Callable[[], T | None], within_s: float, what: str) -> T:
        """Call a function again and again until it returns something true; return that.

        Raises: SystemExit if the program ends before, or it takes too long.
        """

        def read_while_running() -> T | None:
            is_running = self.is_running
            value = read()
            if not value and not is_running:
                raise SystemExit(f"{what}; got the end of the process, with status {self.process.returncode}")
            return value

        try:
            return wait_until(read_while_running, within_s, what)
        except SystemExit as error:
            raise SystemExit("\n".join([f"{error}; its log:", *self.log.splitlines()[-20:]])) from error

    def wait_for_end(self) -> int:
        """Return the exit status once the program has ended."""
        return self.process.wait(STOP_S)

    def stop(self) -> int:
        """Send SIGTERM, and SIGKILL if that does not end the program in time; return the exit status."""
        if self.is_running:
            self.process.terminate()
        try:
            return self.wait_for_end()
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self) -> None:
        """Stop the program, kill what it has left behind, and keep its log."""
        if self._text is not None:
            return
        children = process_tree(self.process.pid)[1:]
        self.stop()
        for kill, number in [(os.killpg, self.process.pid), *((os.kill, child) for child in children)]:
            with suppress(ProcessLookupError):
                kill(number, signal.SIGKILL)
        self._text = self.log
        self._log.close()


class Server(Process):
    """A server: its addresses, its metrics, and what its process holds."""

    def __init__(self, command: Sequence[str | Path], *, environment: Mapping[str, str]) -> None:
        # The server closes each connection: none that is idle shows in its metrics.
        self._http = httpx.Client(headers={"Connection": "close"}, timeout=TIMEOUT_S, trust_env=False)
        super().__init__(command, environment=environment)
        self.ready_s = 0.0

    def wait_until_ready(self) -> None:
        """Wait until it serves, and note how long that took since its start.

        Raises: SystemExit if it does not.
        """
        self.wait_until(lambda: self._addresses("url"), START_S, "it to serve")
        self.ready_s = time.monotonic() - self.started_s

    @property
    def url(self) -> str:
        return self._addresses("url")[-1]

    @property
    def grpc(self) -> str:
        return self._addresses("grpc")[-1]

    @property
    def pid(self) -> int:
        """Return the process that serves: the one started, or the last that a supervisor started."""
        found = re.findall(r"worker_started pid=(\d+)", self.log)
        return int(found[-1]) if found else self.process.pid

    def footprint(self) -> Footprint:
        """Return what the process holds now."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        numbers = {name: int(value) for name, value in re.findall(r"^(RssAnon|Threads):\s+(\d+)", status, re.MULTILINE)}
        num_descriptors = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        return Footprint(numbers["RssAnon"] * 1024, num_descriptors, numbers["Threads"])

    def metrics(self) -> Samples:
        """Return every sample of `/metrics` by its name and labels."""
        return parse_metrics(self.get("/metrics").raise_for_status().text)

    def get(self, path: str, key: str = "") -> httpx.Response:
        """Return the reply to a GET; one try more where it was late, as after a pause of the whole machine."""
        try:
            return self._http.get(self.url + path, headers=_to_headers(key))
        except httpx.TimeoutException:
            return self._http.get(self.url + path, headers=_to_headers(key))

    def post(self, path: str, key: str = "", timeout_s: float = TIMEOUT_S) -> httpx.Response:
        """Return the reply to a POST without a body; `key` is the caller's API key."""
        return self._http.post(self.url + path, headers=_to_headers(key), timeout=timeout_s)

    def close(self) -> None:
        super().close()
        self._http.close()

    def _addresses(self, name: str) -> list[str]:
        """Return the addresses of a port that the log names, in order; it may be text or JSON."""
        return re.findall(rf'\bserving\b.*?\b{name}(?:=|":")([^\s"]+)', self.log)


def _to_headers(key: str) -> dict[str, str]:
    return {"X-API-Key": key} if key else {}


def server_command(*arguments: str, server: str = DEFAULT_SERVER) -> list[str]:
    """Return the command of a server, on free ports unless the arguments name some."""
    ports = [] if "--port" in arguments else ["--port", "0", "--grpc-port", "0"]
    return [*shlex.split(server), *ports, *arguments]


def server_environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return our environment without settings of the server, and with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ADATAPE_")}
    return {**kept, **(variables or {})}


@contextmanager
def start_server(
    *arguments: str, server: str = DEFAULT_SERVER, variables: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Start a server, wait until it serves, and stop it in the end. `variables` go into its environment."""
    command = server_command(*arguments, server=server)
    with Server(command, environment=server_environment(variables)) as running:
        running.wait_until_ready()
        yield running
