"""compose.yaml: valid by schema, hardened, on loopback only, and made of what there is."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from server import __version__
from server.settings import ENV_PREFIX, Settings
from tests.conftest import ROOT

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
services = pytest.mark.parametrize("name", SERVICES)


def test_it_is_valid_by_the_compose_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@services
def test_each_service_has_no_rights_and_knows_its_bounds(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit", "restart"} <= service.keys()


@services
def test_each_service_is_reached_from_this_machine_only(name: str) -> None:
    assert [port for port in SERVICES[name].get("ports", []) if not port.startswith("127.0.0.1:")] == []


@services
def test_each_service_says_whether_it_is_well(name: str) -> None:
    own = "HEALTHCHECK" in (ROOT / "Dockerfile").read_text() and "build" in SERVICES[name]
    assert own or SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@services
def test_each_image_is_one_exact_version(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[\w./-]+:v?\d+\.[\d.]+(-py3)?", image)
    if "build" in SERVICES[name]:
        assert image.endswith(f":{__version__}")


@services
def test_each_path_that_is_mounted_exists(name: str) -> None:
    paths = [volume.split(":")[0] for volume in SERVICES[name]["volumes"]] if "volumes" in SERVICES[name] else []
    named = {path for path in paths if not path.startswith("./")}
    assert named <= COMPOSE["volumes"].keys()
    assert [path for path in set(paths) - named if not (ROOT / path).is_dir()] == []


def test_the_server_takes_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICES["server"]["environment"].items():
        assert name.startswith(ENV_PREFIX)
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    settings = Settings()
    assert (settings.backend, settings.triton_addresses) == ("ort", ["triton:8001"])


def test_the_server_is_given_time_to_drain() -> None:
    assert int(SERVICES["server"]["stop_grace_period"].removesuffix("s")) > Settings().drain_s
