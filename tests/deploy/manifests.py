"""The Kubernetes manifests, as they lie in the tree and as kustomize builds them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.conftest import ROOT

KUBERNETES = ROOT / "deploy/kubernetes"
OVERLAYS = sorted(path.name for path in (KUBERNETES / "overlays").iterdir())
NOT_RESOURCES = ("kustomization.yaml", "-patch.yaml", "images.yaml")

Manifest = dict[str, Any]


def written() -> list[Manifest]:
    """Return every resource of every file."""
    paths = sorted(path for path in KUBERNETES.rglob("*.yaml") if not path.name.endswith(NOT_RESOURCES))
    return [manifest for path in paths for manifest in documents(path.read_text())]


def built(overlay: str) -> list[Manifest]:
    """Return what kustomize makes of an overlay."""
    command = ["kubectl", "kustomize", str(KUBERNETES / "overlays" / overlay)]
    return documents(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def documents(text: str) -> list[Manifest]:
    return list(yaml.safe_load_all(text))


def kustomizations() -> Iterator[tuple[Path, Manifest]]:
    for path in sorted(KUBERNETES.rglob("kustomization.yaml")):
        yield path, yaml.safe_load(path.read_text())


def of_kind(kind: str) -> list[Manifest]:
    """Return the written resources of a kind; there is at least one."""
    found = [manifest for manifest in written() if manifest["kind"] == kind]
    assert found, kind
    return found


def pods() -> list[tuple[str, Manifest]]:
    """Return the name and the pod specification of each Deployment."""
    return [(found["metadata"]["name"], found["spec"]["template"]["spec"]) for found in of_kind("Deployment")]


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"
