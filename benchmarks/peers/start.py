"""Starts a peer in an environment of its own, and waits until it answers."""

import json
import os
import shutil
import socket
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.environments import environment
from loadtest.machine import free_ports
from loadtest.process import Process
from server.models.manifest import Manifest

HERE = Path(__file__).parent
START_S = 120.0
ANSWER_S = 20.0
OK = b"HTTP/1.1 200"
QUIET = {"BENTOML_DO_NOT_TRACK": "True", "RAY_USAGE_STATS_ENABLED": "0", "ORT_DISABLE_TELEMETRY": "1"}


@contextmanager
def running(
    name: str, root: Path, manifest: Manifest, work: Path, core: int, request: bytes
) -> Iterator[tuple[int, int, float]]:
    """Start a peer on one core; give its port, its process and the seconds until it answered a request."""
    port = free_ports(1)[0]
    command, variables = COMMANDS[name](environment(f"peer-{name}", HERE / f"{name}.txt"), manifest, work, port)
    variables = {**os.environ, **QUIET, **_padded(root, manifest), "PYTHONPATH": str(HERE), **variables}
    with Process(["taskset", "--cpu-list", str(core), *command], folder=work, environment=variables) as peer:
        # Some peers listen long before they can answer.
        peer.wait_until(lambda: _answers(port, request), START_S, "an answer")
        yield port, peer.process.pid, time.monotonic() - peer.started_s


def _padded(root: Path, manifest: Manifest) -> dict[str, str]:
    size = manifest.preprocessing
    place = {
        "reader": str((root / manifest.reader.files[0].path).resolve()),
        "trunk": str((root / manifest.trunks[-1].files[0].path).resolve()),
        "shape": [size.height, size.width, 3],
        "capacity": manifest.tape_capacity,
    }
    return {"PADDED": json.dumps(place)}


def _answers(port: int, request: bytes) -> bool:
    """Say whether a request, as the bytes that will be measured, is answered with 200."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), ANSWER_S) as connection:
        connection.sendall(request)
        return connection.recv(len(OK)) == OK
    return False


Command = tuple[list[str], dict[str, str]]
Builder = Callable[[Path, Manifest, Path, int], Command]


def _script(name: str) -> Builder:
    def build(folder: Path, manifest: Manifest, work: Path, port: int) -> Command:
        del manifest, work
        return [str(folder / "bin" / "python"), str(HERE / name), str(port)], {}

    return build


def _mlserver(folder: Path, manifest: Manifest, work: Path, port: int) -> Command:
    grpc_port, metrics_port = free_ports(2)
    settings = {"http_port": port, "grpc_port": grpc_port, "metrics_port": metrics_port, "parallel_workers": 0}
    (work / "settings.json").write_text(json.dumps({**settings, "host": "127.0.0.1", "debug": False}))
    model = {"name": "padded", "implementation": "mlserver_model.PaddedModel"}
    model |= {"max_batch_size": manifest.max_batch_size, "max_batch_time": 0.001}
    (work / "model-settings.json").write_text(json.dumps(model))
    return [str(folder / "bin" / "mlserver"), "start", "."], {}


def _bentoml(folder: Path, manifest: Manifest, work: Path, port: int) -> Command:
    del manifest, work
    serve = ["serve", "bentoml_service:Service", "--working-dir", str(HERE), "--host", "127.0.0.1"]
    return [str(folder / "bin" / "bentoml"), *serve, "--port", str(port)], {}


def _triton(folder: Path, manifest: Manifest, work: Path, port: int) -> Command:
    """Lay out what the bare binary of the pytriton wheel needs: a backend, a stub, libraries and a repository."""
    site = folder / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    backend = work / "backends" / "python"
    if not backend.exists():
        shutil.copytree(site / "pytriton/tritonserver/backends/python", backend)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = site / f"pytriton/tritonserver/python_backend_stubs/{version}/triton_python_backend_stub"
        shutil.copy2(stub, backend)
    model = work / "models" / "padded"
    (model / "1").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(HERE / "triton_model.py", model / "1" / "model.py")
    shutil.copyfile(HERE / "graph.py", model / "1" / "graph.py")
    (model / "config.pbtxt").write_text(_triton_config(manifest))
    libraries = [site / "nvidia_pytriton.libs", Path(str(sysconfig.get_config_var("LIBDIR")))]
    flags = ["--http-address=127.0.0.1", f"--http-port={port}", "--allow-grpc=false", "--allow-metrics=false"]
    flags += [f"--model-repository={work / 'models'}", f"--backend-directory={work / 'backends'}"]
    # The backend's stub takes the packages of the first python3 on PATH.
    paths = {"LD_LIBRARY_PATH": ":".join(map(str, libraries)), "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    return [str(site / "pytriton/tritonserver/bin/tritonserver"), *flags, "--disable-auto-complete-config"], paths


def _triton_config(manifest: Manifest) -> str:
    size, num_classes = manifest.preprocessing, len(manifest.labels)
    return (
        f'name: "padded"\nbackend: "python"\nmax_batch_size: {manifest.max_batch_size}\ndynamic_batching {{ }}\n'
        f'input [ {{ name: "image" data_type: TYPE_UINT8 dims: [ {size.height}, {size.width}, 3 ] }} ]\n'
        f'output [ {{ name: "logits" data_type: TYPE_FP32 dims: [ {num_classes} ] }} ]\n'
        "instance_group [ { kind: KIND_CPU count: 1 } ]\n"
    )


COMMANDS: dict[str, Builder] = {
    "litserve": _script("litserve_server.py"),
    "mlserver": _mlserver,
    "triton": _triton,
    "bentoml": _bentoml,
    "rayserve": _script("rayserve_app.py"),
}
