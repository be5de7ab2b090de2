"""`python deploy/image/check.py`: build the image and start it as production would, where there is no container engine.

buildah executes the steps of the Dockerfile as they stand, on a stand-in for the base: a Debian that debootstrap
makes, under the name of its BASE. The result then runs with a read-only root file system, as the image's numeric user,
without capabilities. So this shows that the steps work and what the result does; it says nothing of the official base.
Needs root, buildah, debootstrap and curl, and the network for packages. Nothing beyond Python's own library.
"""

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOOLS = ("buildah", "debootstrap", "curl", "unshare")
IMAGE = "localhost/adatape-serve"
DEBIAN = "bookworm"
MIRROR = "http://deb.debian.org/debian"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
START_S = 60.0
STOP_S = 30.0
PICTURE_PX = (1500, 1000)  # several megabytes as a bitmap: whatever may spill to a disk would

START = """
mount --bind "$1" "$1" && cd / && mount -o remount,bind,ro "$1" && mount -t proc proc "$1/proc" || exit 1
root=$1; user=$2; group=$3; folder=$4; shift 4
exec chroot "$root" setpriv --reuid "$user" --regid "$group" --clear-groups --no-new-privs \
    --bounding-set=-all --inh-caps=-all env --chdir="$folder" -i "$@"
"""
"""In a mount namespace of its own: a read-only root file system, the image's user, its variables and no others."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Build, start, ask, stop.

    Raises: SystemExit naming what was not as it ought to be.
    """
    options = _parser().parse_args(arguments)
    if reason := missing():
        raise SystemExit(f"image: not checked; {reason}")
    store = Store(options.work.resolve())
    tag = f"{IMAGE}:{options.target}"
    store.make_base(base_name(), options.mirror)
    store.build(options.target, tag)
    config = store.config(tag)
    _check_config(config)
    with store.mounted(tag) as root:
        _check_packages(root)
        _check_running(root, config)
    print(f"image: OK; {tag}, steps executed on a Debian stand-in base")


def missing() -> str | None:
    """Return what stands in the way of a check here, or None."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"no {', '.join(absent)} on PATH"
    return None if os.geteuid() == 0 else "mounting a root file system needs root"


def base_name() -> str:
    """Return the name of the image that the Dockerfile builds on."""
    found = re.search(r"^ARG BASE=(\S+:\S+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert found, "The Dockerfile names one base. This is a bug."
    return f"docker.io/library/{found[1]}"


class Store:
    """Images and containers in a folder of our own: the stand-in must never pass for the real base elsewhere."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._command = ["buildah", "--root", str(folder / "store"), "--runroot", str(folder / "run")]

    def run(self, *arguments: str) -> str:
        """Run buildah and return what it prints; its log goes to standard error."""
        done = subprocess.run([*self._command, *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout.strip()

    def make_base(self, name: str, mirror: str) -> None:
        """Commit a minimal Debian with Python under this name, unless it is there already."""
        if name in self.run("images", "--format", "{{.Name}}:{{.Tag}}").split():
            return
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            root = Path(folder) / "root"
            options = ["--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
            subprocess.run(["debootstrap", *options, DEBIAN, root, mirror], check=True, stdout=sys.stderr)
            (root / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            if CERTIFICATES.exists():  # this machine's own, where its way to the packages needs them
                shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
                (root / "etc/pip.conf").write_text(f"[global]\ncert = {CERTIFICATES}\n")
            container = self.run("from", "scratch")
            self.run("copy", "--quiet", container, str(root), "/")
            self.run("commit", "--quiet", "--rm", "--format=docker", container, name)

    def build(self, target: str, tag: str) -> None:
        """Execute the Dockerfile, as it stands, up to a target."""
        how = ["--isolation=chroot", "--pull-never", "--format=docker", "--layers"]
        self.run("bud", *how, f"--target={target}", f"--tag={tag}", ".")

    def config(self, image: str) -> dict[str, Any]:
        """Return what an image says of how to start it."""
        return dict(json.loads(self.run("inspect", "--type=image", image))["Docker"]["config"])

    @contextmanager
    def mounted(self, image: str) -> Iterator[Path]:
        """Give the root file system of a container of an image."""
        container = self.run("from", "--pull-never", image)
        try:
            yield Path(self.run("mount", container))
        finally:
            self.run("rm", container)


def _check_config(config: Mapping[str, Any]) -> None:
    _expect("user", config["User"], is_right=bool(re.fullmatch(r"[1-9]\d*:[1-9]\d*", config["User"])))
    _expect("health check", config["Healthcheck"]["Test"][:2], is_right="curl" not in str(config["Healthcheck"]))
    settings = [setting for setting in config["Env"] if setting.startswith(("ORT_", "ADATAPE_"))]
    _expect("settings", settings, is_right="ORT_DISABLE_TELEMETRY=1" in settings)
    labels = sorted(name for name in config["Labels"] if name.startswith("org.opencontainers.image."))
    _expect("labels", labels, is_right=len(labels) > 3)


def _check_packages(root: Path) -> None:
    found = {path.name.lower() for path in (root / "opt/venv/lib").glob("python3*/site-packages/*")}
    unwanted = sorted({"torch", "onnx", "pip"} & found)
    _expect("torch, onnx or pip", unwanted or "none", is_right=not unwanted)
    builds = sorted(name for name in found if re.match(r"onnxruntime.*\.dist-info", name))
    _expect("onnxruntime", builds, is_right=len(builds) == 1)


def _check_running(root: Path, config: Mapping[str, Any]) -> None:
    """Start it, ask it, ask its health check, stop it. No GPU reaches it here, so the GPU image must say so first."""
    if "ADATAPE_DEVICE=cuda" in config["Env"]:
        refused = subprocess.run(
            _inside(root, config, _ports(), config["Entrypoint"]), check=False, stderr=subprocess.PIPE
        )
        missing_libraries = sorted(set(re.findall(rb"error: (\S+\.so\S*): cannot open", refused.stderr)))
        is_driver_alone = refused.returncode != 0 and missing_libraries == [b"libcuda.so.1"]
        _expect("without a GPU it refuses to start, for want of", missing_libraries, is_right=is_driver_alone)
        config = {**config, "Env": [*config["Env"], "ADATAPE_DEVICE=auto"]}
    ports = _ports()
    process = subprocess.Popen(_inside(root, config, ports, config["Entrypoint"]))
    try:
        url = f"http://127.0.0.1:{ports['ADATAPE_PORT']}"
        print(f"  ready: {_wait_until_ready(process, url)}")
        _check_rights(Path(f"/proc/{process.pid}"), config["User"].split(":")[0])
        _classify(url)
        healthy = subprocess.run(_inside(root, config, ports, config["Healthcheck"]["Test"][1:]), check=False)
        _expect("exit status of the health check", healthy.returncode, is_right=healthy.returncode == 0)
        process.terminate()
        ended = process.wait(STOP_S)
        _expect("exit status after SIGTERM", ended, is_right=ended == 0)
    finally:
        process.kill()
        process.wait()


def _check_rights(process: Path, user: str) -> None:
    rights = dict(
        re.findall(r"^(Uid|CapEff|CapBnd|NoNewPrivs):\s+(\S+)", (process / "status").read_text(), re.MULTILINE)
    )
    is_bare = int(rights["CapEff"], 16) == int(rights["CapBnd"], 16) == 0
    _expect("user and capabilities", rights, is_right=rights["Uid"] == user and is_bare)
    options = re.findall(r"^\S+ / \S+ (\w+)", (process / "mounts").read_text(), re.MULTILINE)
    _expect("root file system", options, is_right=set(options) == {"ro"})


def _classify(url: str) -> None:
    """Have curl post a picture of several megabytes."""
    with tempfile.TemporaryDirectory() as scratch:
        picture = Path(scratch) / "photo.bmp"
        picture.write_bytes(bitmap(*PICTURE_PX))
        answer = json.loads(_curl("--form", f"file=@{picture}", f"{url}/v1/classify?max_tape=4&top_k=1"))
    receipt = answer["results"][0]["receipt"]
    shown = {name: receipt[name] for name in ("cap", "tape_length", "executed_flops")}
    _expect(f"curl, {answer['model']}", shown, is_right=receipt["tape_length"] <= 4)


def bitmap(width: int, height: int) -> bytes:
    """Return a picture that fades from black to white, as BMP."""
    row = b"".join(bytes([x * 255 // width] * 3) for x in range(width)).ljust((width * 3 + 3) // 4 * 4, b"\0")
    size = 54 + len(row) * height
    numbers = (size, 0, 54, 40, width, height)
    head = b"BM" + b"".join(number.to_bytes(4, "little") for number in numbers)
    return (head + b"\1\0\x18\0").ljust(54, b"\0") + row * height


def _inside(root: Path, config: Mapping[str, Any], extra: Mapping[str, str], command: Sequence[str]) -> list[str]:
    """Return what runs a command of the image; the process keeps its id, so signals reach the server itself."""
    user, group = config["User"].split(":")
    settings = [*config["Env"], *(f"{name}={value}" for name, value in extra.items())]  # the last of a name wins
    isolated = ["unshare", "--mount", "--propagation=private", "sh", "-c", START, "sh"]
    return [*isolated, str(root), user, group, config["WorkingDir"], *settings, *command]


def _ports() -> dict[str, str]:
    """Return settings that name two free ports of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [str(listener.getsockname()[1]) for listener in (first, second)]
    return {"ADATAPE_HOST": "127.0.0.1", "ADATAPE_PORT": ports[0], "ADATAPE_GRPC_PORT": ports[1]}


def _wait_until_ready(process: subprocess.Popen[bytes], url: str) -> str:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        try:
            return _curl(f"{url}/readyz")
        except subprocess.CalledProcessError:
            time.sleep(0.1)
    raise SystemExit(f"image; got exit status {process.poll()}; expected a ready server within {START_S:g} s")


def _curl(*arguments: str) -> str:
    done = subprocess.run(["curl", "--silent", "--fail", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def _expect(what: str, got: object, *, is_right: bool) -> None:
    if not is_right:
        raise SystemExit(f"image; {what}; got {got}; expected otherwise")
    print(f"  {what}: {got}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Build the image on a Debian stand-in base, start it and ask it.")
    parser.add_argument("--target", choices=("cpu", "gpu"), default="cpu", help="default: %(default)s")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build/image", help="folder for images; default: build/image"
    )
    parser.add_argument("--mirror", default=MIRROR, help="of Debian; default: %(default)s")
    return parser


if __name__ == "__main__":
    main()
