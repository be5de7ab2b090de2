"""The processes of the check: started on loopback, and stopped at its end in any case."""

import sys
from pathlib import Path
from shutil import which
from typing import Self

from loadtest.machine import free_ports
from loadtest.process import ROOT, Process, Server, server_command, server_environment
from monitoring.check.prometheus import RULES, Api, write_configuration

START_S = 60.0
LOCAL = "127.0.0.1"
TOOLS = {"prometheus": "prometheus", "prometheus-alertmanager": "prometheus-alertmanager"}
"""Programs by the Debian package that brings each."""


def missing() -> list[str]:
    """Return the Debian packages whose programs are not here."""
    return [package for program, package in TOOLS.items() if which(program) is None]


class Trial:
    """A server, a Prometheus that scrapes it, an Alertmanager and a load; all end with it."""

    def __init__(self, folder: Path, server: str) -> None:
        self.folder, self._server = folder, server
        self._running: dict[str, Process] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in reversed(list(self._running)):
            self.stop(name)

    def start_server(self, *arguments: str) -> Api:
        """Start the server."""
        command = server_command(*arguments, server=self._server)
        server = self._running["server"] = Server(command, environment=server_environment())
        server.wait_until_ready()
        return Api(server.url)

    def start_alertmanager(self) -> Api:
        """Start an Alertmanager with our configuration, alone."""
        port = free_ports(1)[0]
        return self._start_api(
            "alertmanager",
            port,
            "prometheus-alertmanager",
            f"--config.file={ROOT / 'monitoring/alertmanager/alertmanager.yml'}",
            f"--storage.path={self.folder / 'alertmanager'}",
            f"--web.listen-address={LOCAL}:{port}",
            "--cluster.listen-address=",
        )

    def start_prometheus(self, server_url: str, alertmanager: Api) -> Api:
        """Start a Prometheus with our configuration, quicker than usual, and our rules."""
        port = free_ports(1)[0]
        configuration = write_configuration(self.folder, server=server_url, alertmanager=alertmanager.url, rules=RULES)
        return self._start_api(
            "prometheus",
            port,
            "prometheus",
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address={LOCAL}:{port}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        )

    def start_load(self, server_url: str) -> None:
        """Ask the server without end."""
        self._start("load", sys.executable, "-m", "monitoring.check.load", "--url", server_url)

    def stop(self, name: str) -> None:
        """End a process that was started here, and wait for it."""
        self._running.pop(name).close()

    def check_running(self) -> None:
        """Return if all still run.

        Raises: SystemExit with the end of the output of one that does not.
        """
        for name, process in self._running.items():
            if not process.is_running:
                status, lines = process.process.returncode, process.log.splitlines()[-10:]
                raise SystemExit("\n".join([f"{name}; got status {status}; expected it to run", *lines]))

    def _start(self, name: str, *command: str) -> Process:
        self._running[name] = Process(command)
        return self._running[name]

    def _start_api(self, name: str, port: int, *command: str) -> Api:
        api = Api(f"http://{LOCAL}:{port}")
        self._start(name, *command).wait_until(api.is_ready, START_S, "an answer")
        return api
