"""`python deploy/triton/serve.py`: start the Triton Inference Server that pip brings, on loopback.

For machines without NVIDIA's image. The environment holds the package nvidia-pytriton, which carries Triton's own
binary, and its interpreter runs the Python backend, so it is the one that starts this file. The wheel has no native
onnxruntime backend: `--backends` names folders of Python-based ones. Needs nothing beyond Python's own library.
"""

import argparse
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

LIBRARY = "libtriton_python.so"
STUB = "triton_python_backend_stub"


def main(arguments: Sequence[str] | None = None) -> None:
    """Become tritonserver: the process keeps its id, so that signals reach the server itself.

    Raises: SystemExit if a part is missing.
    """
    options, rest = _parse(arguments)
    home = _triton_home()
    backends = _backend_directory(home, options.backends)
    server = home / "bin" / "tritonserver"
    flags = [
        f"--model-repository={options.repository.resolve()}",
        f"--backend-directory={backends}",
        *(f"--{port}-address={options.host}" for port in ("http", "grpc", "metrics")),
        f"--http-port={options.http_port}",
        f"--grpc-port={options.grpc_port}",
        f"--metrics-port={options.metrics_port}",
        "--disable-auto-complete-config",  # ours are complete; it would start every model twice
    ]
    os.execve(server, [str(server), *flags, *rest], _environment())  # noqa: S606 - this process is to become Triton


def _parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description="Options that are not listed are handed to tritonserver.")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="default: %(default)s")
    parser.add_argument("--backends", type=Path, action="append", default=[], help="folder of Python-based backends")
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    for name, port in (("http", 8010), ("grpc", 8011), ("metrics", 8012)):
        parser.add_argument(f"--{name}-port", type=int, default=port, help="default: %(default)s")
    return parser.parse_known_args(arguments)


def _triton_home() -> Path:
    """Return the folder of Triton's binary inside the package."""
    home = _site_packages() / "pytriton" / "tritonserver"
    if not home.is_dir():
        raise SystemExit(f"Triton; got none for {sys.executable}; expected nvidia-pytriton: make triton-setup")
    return home


def _site_packages() -> Path:
    return Path(sysconfig.get_path("purelib"))


def _backend_directory(home: Path, extra: Sequence[Path]) -> Path:
    """Lay out Triton's Python backend with this interpreter's stub, and the extra backends beside it.

    Copies, since Triton refuses a library that a link leads to.
    """
    folder = Path(sys.prefix) / "triton-backends"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / STUB
    if not stub.is_file():
        raise SystemExit(f"Triton's Python stub; got none for Python {version}; expected one in {stub.parent.parent}")
    parts = [home / "backends" / "python", *(path for parent in extra for path in parent.iterdir() if path.is_dir())]
    for part in parts:
        for source in (path for path in part.iterdir() if path.is_file()):
            _copy(source, folder / part.name)
    _copy(stub, folder / "python")
    return folder


def _copy(source: Path, folder: Path) -> None:
    """Copy a file in one step: another start may be doing the same."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{source.name}.{os.getpid()}"
    shutil.copy2(source, draft)
    draft.replace(folder / source.name)


def _environment() -> dict[str, str]:
    """Return the environment in which Triton finds its libraries and Python, and its stubs this environment.

    The stubs ignore PYTHONPATH and take the packages of the first python3 on PATH.
    """
    libraries = [_site_packages() / "nvidia_pytriton.libs", _python_library()]
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)]),
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "ORT_DISABLE_TELEMETRY": "1",
    }


def _python_library() -> Path:
    """Return the folder of the shared library of Python that the stub is linked with.

    Raises: SystemExit if this Python was built without one.
    """
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}.so.1.0"
    folder = Path(sysconfig.get_config_var("LIBDIR"))
    multiarch = sysconfig.get_config_var("MULTIARCH")
    places = [folder, folder / multiarch] if multiarch else [folder]
    found = [place for place in places if (place / name).exists()]
    if not found:
        raise SystemExit(f"{name}; got none in {folder}; expected a Python built with a shared library")
    return found[0]


if __name__ == "__main__":
    main()
