"""Live and ready, of the server and of the model."""

from loadtest.conformance.expect import expect, expect_equal, expect_in
from loadtest.conformance.registry import MUST, check
from loadtest.conformance.target import Target, expect_refused

SOURCE = "OIP REST, Health"


@check("http.health.live", MUST, SOURCE)
def live(target: Target) -> None:
    """GET v2/health/live answers 200."""
    expect_equal(target.http.get("v2/health/live").status, 200, "status")


@check("http.health.live_body", MUST, SOURCE)
def live_body(target: Target) -> None:
    """The body of v2/health/live is {"live": true}."""
    expect_equal(target.http.get("v2/health/live").json(), {"live": True}, "body")


@check("http.health.ready", MUST, SOURCE)
def ready(target: Target) -> None:
    """GET v2/health/ready answers 200 while models are served."""
    expect_equal(target.http.get("v2/health/ready").status, 200, "status")


@check("http.health.ready_body", MUST, SOURCE)
def ready_body(target: Target) -> None:
    """The body of v2/health/ready says true, as `ready` or, as the specification prints it, as `live`."""
    expect_in(target.http.get("v2/health/ready").json(), [{"ready": True}, {"live": True}], "body")


@check("http.model.ready", MUST, SOURCE)
def model_ready(target: Target) -> None:
    """GET v2/models/{model}/ready answers 200."""
    expect_equal(target.http.get(target.model_path("ready")).status, 200, "status")


@check("http.model.ready_body", MUST, SOURCE)
def model_ready_body(target: Target) -> None:
    """The body of a model's ready call names it and says true."""
    body = target.http.get(target.model_path("ready")).json()
    expect_equal({name: body.get(name) for name in ("name", "ready")}, {"name": target.model.name, "ready": True}, "")


@check("http.model.ready_version", MUST, SOURCE)
def model_ready_version(target: Target) -> None:
    """A model's ready call takes a version."""
    expect_equal(target.http.get(target.model_path("ready", target.model.version)).status, 200, "status")


@check("http.model.ready_unknown", MUST, SOURCE)
def model_ready_unknown(target: Target) -> None:
    """An unknown model is not ready: 4xx with an error."""
    expect_refused(target.http.get(target.model_path("ready", name="no_such_model")))


@check("http.model.ready_unknown_version", MUST, SOURCE)
def model_ready_unknown_version(target: Target) -> None:
    """An unknown version is not ready: 4xx with an error."""
    expect_refused(target.http.get(target.model_path("ready", "999999")))


@check("http.health.many", MUST, SOURCE)
def many(target: Target) -> None:
    """Health calls leave their connection usable."""
    with target.http.open() as connection:
        statuses = [connection.request("GET", target.http.path("v2/health/live")).status for _ in range(5)]
    expect(statuses == [200] * 5, f"statuses {statuses}", "200 each time")
