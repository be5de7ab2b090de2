"""The Kubernetes manifests: valid by schema, hardened, drained with care, and at one with the server."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from server import __version__
from server.__main__ import CommandLine
from server.metrics import Metrics
from server.settings import ENV_PREFIX, Settings, bodies_share
from tests.deploy.manifests import KUBERNETES, OVERLAYS, Manifest, built, kustomizations, of_kind, pods, title, written

DIGEST = f"sha256:{'ab' * 32}"
VERSIONS = ("1.29.0", kubernetes_validate.latest_version())
SCHEMAS = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "schemas").glob("*.json")}


def validate(manifest: Manifest) -> None:
    """Hold a manifest to the schema of its kind: Kubernetes' own, strictly, or ours for a custom kind."""
    if manifest["kind"] in SCHEMAS:
        jsonschema.validate(manifest, SCHEMAS[manifest["kind"]])
        return
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


# --- Schemas ---------------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", written(), ids=title)
def test_each_manifest_is_valid(manifest: Manifest) -> None:
    validate(manifest)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on PATH")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_each_overlay_builds_and_is_valid(overlay: str) -> None:
    manifests = built(overlay)
    assert len(manifests) > 2
    for manifest in manifests:
        validate(manifest)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "adatape", title(manifest)


@pytest.mark.parametrize(("kind", "path"), [("ScaledObject", ["spec", "trigers"]), ("Deployment", ["spec", "replica"])])
def test_a_misspelt_field_is_not_valid(kind: str, path: list[str]) -> None:
    manifest: Any = json.loads(json.dumps(of_kind(kind)[0]))
    manifest[path[0]][path[1]] = 1
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate(manifest)


# --- Pods ------------------------------------------------------------------------------------


def containers() -> list[Manifest]:
    """Return every container that we describe, those of the KServe runtime and those that only prepare included."""
    found = [each for _, pod in pods() for each in [*pod["containers"], *pod.get("initContainers", [])]]
    return found + [each for runtime in of_kind("ServingRuntime") for each in runtime["spec"]["containers"]]


@pytest.mark.parametrize("container", containers(), ids=lambda container: container["name"])
def test_each_container_has_no_rights_and_knows_its_bounds(container: Manifest) -> None:
    security = container["securityContext"]
    assert security["allowPrivilegeEscalation"] is False
    assert security["readOnlyRootFilesystem"] is True
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(("name", "pod"), pods())
def test_each_pod_runs_as_nobody_in_particular(name: str, pod: Manifest) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["automountServiceAccountToken"] is False
    assert pod["topologySpreadConstraints"]


def serving() -> list[tuple[int, Manifest]]:
    """Return each serving container with its pod's grace period."""
    found = [(pod["terminationGracePeriodSeconds"], pod["containers"][0]) for _, pod in pods()]
    (service,), (runtime,) = of_kind("InferenceService"), of_kind("ServingRuntime")
    return [*found, (service["spec"]["predictor"]["terminationGracePeriodSeconds"], runtime["spec"]["containers"][0])]


@pytest.mark.parametrize(("grace_s", "container"), serving(), ids=lambda value: str(value)[:20])
def test_a_pod_leaves_the_balancers_then_drains_then_ends(grace_s: int, container: Manifest) -> None:
    command, seconds = container["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    assert int(seconds) > container["readinessProbe"]["periodSeconds"] * container["readinessProbe"]["failureThreshold"]
    assert grace_s >= int(seconds) + Settings().drain_s
    assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()


UNITS = {"Mi": 2**20, "Gi": 2**30}
MODELS_BYTES = 200 * 2**20
"""What a server of the shipped families takes before anybody asks it."""
DECODED_BYTES = 3
"""A pixel's."""


@pytest.mark.parametrize(("_", "container"), serving(), ids=lambda value: str(value)[:20])
def test_full_bodies_and_images_being_decoded_fit_into_the_pod(_: int, container: Manifest) -> None:
    if container["name"].startswith("triton"):
        pytest.skip("Triton takes what its gateways let in")
    limit = container["resources"]["limits"]["memory"]
    memory_bytes = int(limit[:-2]) * UNITS[limit[-2:]]
    num_threads = int(container["resources"]["requests"]["cpu"])
    decoding_bytes = num_threads * Settings().max_pixels * DECODED_BYTES
    assert MODELS_BYTES + bodies_share(memory_bytes) + decoding_bytes <= memory_bytes


def test_kubernetes_adds_no_variables_that_the_server_would_refuse() -> None:
    assert [name for name, pod in pods() if pod["enableServiceLinks"] is not False] == []
    assert [found["spec"]["predictor"]["enableServiceLinks"] for found in of_kind("InferenceService")] == [False]


# --- At one with the server ------------------------------------------------------------------


def test_every_setting_is_one_that_the_server_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    literals = [
        literal
        for _, kustomization in kustomizations()
        for generator in kustomization.get("configMapGenerator", [])
        for literal in generator["literals"]
    ]
    assert literals
    for literal in literals:
        name, _, value = literal.partition("=")
        assert name.startswith(ENV_PREFIX)
        monkeypatch.setenv(name, value)
    assert Settings().slo_ms == 100
    (runtime,) = of_kind("ServingRuntime")
    assert str(CommandLine(_cli_parse_args=runtime["spec"]["containers"][0]["args"]).model_repository) == "/mnt/models"


def test_overlays_run_this_version() -> None:
    tags = [
        image["newTag"]
        for _, kustomization in kustomizations()
        for image in kustomization.get("images", [])
        if image["name"] == "adatape-serve"
    ]
    assert tags == [__version__] * len(OVERLAYS)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_of_an_overlay_is_behind_a_policy(overlay: str) -> None:
    """What carries no keys is open to whoever reaches it."""
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl on PATH")
    manifests = built(overlay)
    policies = [each["spec"] for each in manifests if each["kind"] == "NetworkPolicy"]
    both = [each["podSelector"]["matchLabels"].items() for each in policies if len(each["policyTypes"]) == 2]
    wanted = [each["spec"]["template"]["metadata"]["labels"] for each in manifests if each["kind"] == "Deployment"] + [
        {"serving.kserve.io/inferenceservice": each["metadata"]["name"]}
        for each in manifests
        if each["kind"] == "InferenceService"
    ]
    assert wanted
    assert [labels for labels in wanted if not any(chosen <= labels.items() for chosen in both)] == []


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl on PATH")
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_digest_takes_the_place_of_a_tag(overlay: str, tmp_path: Path) -> None:
    tree = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    for path in tree.rglob("kustomization.yaml"):
        path.write_text(path.read_text().replace("# digest: sha256:...", f"digest: {DIGEST}"))
    command = ["kubectl", "kustomize", str(tree / "overlays" / overlay)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    images = re.findall(r"^\s*-?\s*image: (\S+)$", text, flags=re.MULTILINE)
    assert images
    assert [image for image in images if not image.endswith(f"@{DIGEST}")] == []


def test_autoscalers_ask_for_metrics_that_there_are() -> None:
    named = {metric.name + "_total" * (metric.type == "counter") for metric in Metrics().registry.collect()}
    queries = [
        trigger["metadata"]["query"] for found in of_kind("ScaledObject") for trigger in found["spec"]["triggers"]
    ]
    assert queries
    for query in queries:
        assert set(re.findall(r"adatape_\w+", query)) <= named, query


def test_selectors_find_what_they_name() -> None:
    ports = {port["name"] for _, pod in pods() for port in pod["containers"][0]["ports"]}
    labels = [found["spec"]["template"]["metadata"]["labels"] for found in of_kind("Deployment")]
    for service in of_kind("Service"):
        assert service["spec"]["selector"] in labels
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    for kind in ("PodDisruptionBudget", "Deployment"):
        assert all(found["spec"]["selector"]["matchLabels"] in labels for found in of_kind(kind))
    services = [
        {"serving.kserve.io/inferenceservice": each["metadata"]["name"]} for each in of_kind("InferenceService")
    ]
    for policy in of_kind("NetworkPolicy"):
        assert policy["spec"]["podSelector"]["matchLabels"] in [*labels, *services]
    for monitor in of_kind("ServiceMonitor"):
        services = [
            each
            for each in of_kind("Service")
            if each["metadata"]["labels"] == monitor["spec"]["selector"]["matchLabels"]
        ]
        offered = {port["name"] for service in services for port in service["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= offered


def test_autoscalers_and_budgets_name_deployments() -> None:
    deployments = {found["metadata"]["name"] for found in of_kind("Deployment")}
    for kind in ("ScaledObject", "HorizontalPodAutoscaler"):
        assert {found["spec"]["scaleTargetRef"]["name"] for found in of_kind(kind)} <= deployments
    assert all("replicas" not in found["spec"] for found in of_kind("Deployment"))
