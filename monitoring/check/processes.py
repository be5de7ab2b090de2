"""The processes of a trial: started on loopback, their output kept, and ended whatever happens."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from shutil import which
from typing import Self, TypeVar

from loadtest.machine import free_ports
from monitoring.check.prometheus import RULES, Api, write_configuration

ROOT = Path(__file__).parents[2]
START_S = 60.0
STOP_S = 30.0
POLL_S = 0.2
LOCAL = "127.0.0.1"
TOOLS = {"prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}
"""Programs by the Debian package that brings each."""
_SERVING = re.compile(r"serving url=(\S+)")
T = TypeVar("T")


def missing() -> list[str]:
    """Return the Debian packages whose programs are not here."""
    return [package for program, package in TOOLS.items() if which(program) is None]


def wait_for(read: Callable[[], T | None], seconds: float, what: str) -> T:
    """Return what is read once it is there.

    Raises: SystemExit if it does not come in time.
    """
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        value = read()
        if value is not None:
            return value
        time.sleep(POLL_S)
    raise SystemExit(f"{what}; got nothing within {seconds:g} s; expected it to come")


class Trial:
    """A server, a Prometheus that scrapes it, an Alertmanager and a load; all end with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._stack = ExitStack()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)
        self._stack.close()

    def start_server(self, *arguments: str) -> str:
        """Start the server; return its URL."""
        self._start("server", sys.executable, "-m", "server", "--port", "0", "--grpc-port", "0", *arguments)
        return wait_for(self._server_url, START_S, "server")

    def start_alertmanager(self) -> Api:
        """Start an Alertmanager with our configuration, alone."""
        port = free_ports(1)[0]
        self._start(
            "alertmanager",
            "prometheus-alertmanager",
            f"--config.file={ROOT / 'monitoring/alertmanager/alertmanager.yml'}",
            f"--storage.path={self.folder / 'alertmanager'}",
            f"--web.listen-address={LOCAL}:{port}",
            "--cluster.listen-address=",
        )
        return self._api("alertmanager", port)

    def start_prometheus(self, server_url: str, alertmanager: Api) -> Api:
        """Start a Prometheus with our configuration, quicker than usual, and our rules."""
        port = free_ports(1)[0]
        configuration = write_configuration(self.folder, server=server_url, alertmanager=alertmanager.url, rules=RULES)
        self._start(
            "prometheus",
            "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address={LOCAL}:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        )
        return self._api("prometheus", port)

    def start_load(self, server_url: str) -> None:
        """Ask the server without end."""
        self._start("load", sys.executable, "-m", "monitoring.check.load", "--url", server_url)

    def stop(self, name: str) -> None:
        """End a process that was started here, and wait for it."""
        process = self._running.pop(name)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def check_running(self) -> None:
        """Return if all still run.

        Raises: SystemExit with the end of the output of one that does not.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                lines = self._log(name).splitlines()[-10:]
                raise SystemExit("\n".join([f"{name}; got status {process.returncode}; expected it to run", *lines]))

    def _start(self, name: str, *command: str) -> None:
        output = self._stack.enter_context((self.folder / f"{name}.log").open("wb"))
        self._running[name] = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)

    def _api(self, name: str, port: int) -> Api:
        api = Api(f"http://{LOCAL}:{port}")

        def ready() -> Api | None:
            self.check_running()
            return api if api.is_ready() else None

        return wait_for(ready, START_S, name)

    def _server_url(self) -> str | None:
        self.check_running()
        match = _SERVING.search(self._log("server"))
        return match.group(1) if match else None

    def _log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
