"""New versions of a model: sound, half-written, corrupt, unreadable."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from loadtest.chaos.promises import promise
from loadtest.chaos.registry import scenario
from loadtest.chaos.servers import ScenarioServers, load_on, until_answered
from loadtest.process import Server
from loadtest.repository import RepositoryCopy

NUM_RELOADS = 3
CALM_S = 2.0


@scenario
async def a_new_version_under_load(servers: ScenarioServers) -> str:
    """New versions are loaded, warmed and switched to while others are answered: no request fails."""
    with servers.real() as (server, repository):
        async with load_on(server) as load:
            await asyncio.sleep(CALM_S)
            calm_ms, reload_ms = load.p99_ms(), []
            for version in range(2, 2 + NUM_RELOADS):
                repository.publish(version)
                status, error = await _load(server, repository)
                promise(status == 200, f"{status} {error}", "the version to be loaded")
                reload_ms.append(load.p99_ms())
        promise(load.num_failed == 0, dict(load.statuses), "no request to fail")
        now = server.get(f"/v1/models/{repository.family}").json()["version"]
        promise(now == str(1 + NUM_RELOADS), now, "the newest version to answer")
    median = sorted(reload_ms)[len(reload_ms) // 2]
    return (
        f"{load.statuses[200]} answered, 0 failed; p99 {calm_ms:.1f} ms before, {median:.1f} ms in the median of "
        f"{NUM_RELOADS} reloads on this machine"
    )


async def _load(server: Server, repository: RepositoryCopy) -> tuple[int, str]:
    reply = await asyncio.to_thread(server.post, f"/v2/repository/models/{repository.family}/load")
    return reply.status_code, reply.text


def _half_written(folder: Path, _: RepositoryCopy) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes()[:2000])


def _edit(folder: Path, change: Callable[[dict[str, object]], None]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest["reader"]["files"][0])
    path.write_text(json.dumps(manifest), encoding="utf-8")


def _corrupt(folder: Path, _: RepositoryCopy) -> None:
    _edit(folder, lambda file: file.update(sha256="0" * 64))


def _missing(folder: Path, _: RepositoryCopy) -> None:
    _edit(folder, lambda file: file.update(path="nowhere/model.onnx"))


def _no_file(folder: Path, repository: RepositoryCopy) -> None:
    """Name a folder where a file ought to be: reading it is an error of the disk."""
    _edit(folder, lambda file: file.update(path=f"{repository.family}/1"))


def _bad_sector(folder: Path, _: RepositoryCopy) -> None:
    """Let reading the manifest fail as a broken disk does: so does, for real, the start of a process's memory."""
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to("/proc/self/mem")


def _ring(folder: Path, repository: RepositoryCopy) -> None:
    """Name a file that is a link to itself."""
    (repository.root / "ring.onnx").unlink(missing_ok=True)
    (repository.root / "ring.onnx").symlink_to(repository.root / "ring.onnx")
    _edit(folder, lambda file: file.update(path="ring.onnx"))


def _no_graph(folder: Path, repository: RepositoryCopy) -> None:
    """Name a whole file, its hash right, that is no graph."""
    junk = b"no graph" * 100
    (repository.root / "junk.onnx").write_bytes(junk)
    digest = hashlib.sha256(junk).hexdigest()
    _edit(folder, lambda file: file.update(path="junk.onnx", sha256=digest, size_bytes=len(junk)))


DAMAGES = {
    "half-written": _half_written, "corrupt": _corrupt, "missing": _missing, "unreadable": _no_file,
    "on a bad sector": _bad_sector, "a ring of links": _ring, "no graph": _no_graph,
}  # fmt: skip


@scenario
async def versions_that_are_not_whole(servers: ScenarioServers) -> str:
    """A version that is half-written, corrupt, unreadable or no graph is refused with the reason; the old serves on."""
    reasons = []
    with servers.real() as (server, repository):
        async with load_on(server) as load:
            for version, (name, damage) in enumerate(DAMAGES.items(), 2):
                damage(repository.publish(version), repository)
                status, error = await _load(server, repository)
                promise(status >= 400, f"{status} for a version that is {name}", "a refusal")
                promise('"error"' in error and "expected" in error, error, "the reason")
                reasons.append(f"{name} ({status})")
                repository.remove(version)
            await until_answered(server)
        promise(load.num_failed == 0, dict(load.statuses), "the old version to serve on without a failure")
        now = server.get(f"/v1/models/{repository.family}").json()["version"]
        promise(now == "1", now, "the old version")
        repository.publish(9)
        status, error = await _load(server, repository)
        promise(status == 200, f"{status} {error}", "a sound version to be taken afterwards")
    return f"refused: {', '.join(reasons)}; {load.statuses[200]} answered meanwhile, 0 failed"
