"""The form of all error answers."""

from loadtest.conformance.expect import expect, expect_equal
from loadtest.conformance.messages import json_message, read_answer
from loadtest.conformance.registry import MUST, TRITON, check
from loadtest.conformance.target import CONTENT_JSON, Target, expect_refused

SOURCE = "OIP REST, Inference Response JSON Error Object"


@check("http.error.content_type", MUST, SOURCE + "; RFC 9110 8.3")
def content_type(target: Target) -> None:
    """An error of an infer call says that it is application/json."""
    response = target.http.post(target.model_path("infer"), b"{")
    kind = response.header("content-type") or ""
    expect(kind.split(";")[0].strip() == CONTENT_JSON, f"Content-Type {kind!r}", CONTENT_JSON)


@check("http.error.content_type_of_not_found", MUST, SOURCE + "; RFC 9110 8.3")
def content_type_of_not_found(target: Target) -> None:
    """An error for an unknown model says that it is application/json."""
    kind = target.http.get(target.model_path(name="no_such_model")).header("content-type") or ""
    expect(kind.split(";")[0].strip() == CONTENT_JSON, f"Content-Type {kind!r}", CONTENT_JSON)


@check("http.error.unknown_path", TRITON, "tritonclient reads json['error'] of every reply that is not 200")
def unknown_path(target: Target) -> None:
    """An unknown path is 404 with an error."""
    expect_refused(target.http.get("v2/no/such/path"), {404})


@check("http.error.wrong_verb", TRITON, "tritonclient reads json['error'] of every reply that is not 200")
def wrong_verb(target: Target) -> None:
    """A wrong verb is 405 with an error."""
    for method, path in (("GET", target.model_path("infer")), ("DELETE", target.model_path()), ("POST", "v2")):
        expect_refused(target.http.send(method, path), {405})


@check("http.error.allow", MUST, "RFC 9110 15.5.6")
def allow(target: Target) -> None:
    """A 405 says in its Allow header which verbs there are."""
    response = target.http.send("GET", target.model_path("infer"))
    expect_equal(response.status, 405, "status")
    allowed = [verb.strip() for verb in (response.header("allow") or "").split(",")]
    expect("POST" in allowed, f"Allow {response.header('allow')!r}", "POST among them")


@check("http.error.connection_lives", MUST, "RFC 9112 9.3")
def connection_lives(target: Target) -> None:
    """After an error the same connection answers the next request, or the error said that it closes."""
    path = target.http.path(target.model_path("infer"))
    with target.http.open() as connection:
        refused = connection.request("POST", path, b'{"inputs": 3}')
        expect_refused(refused)
        if (refused.header("connection") or "").lower() != "close":
            read_answer(connection.request("POST", path, json_message(target.model.tensors()).body))


@check("http.error.echo_is_utf8", MUST, "RFC 8259 8.1")
def echo_is_utf8(target: Target) -> None:
    """An error that repeats what was sent is still JSON in UTF-8."""
    expect_refused(target.http.get("v2/models/%FF%FE%22%0A"), set(range(400, 500)))


@check("http.error.infer_on_get", MUST, "OIP REST: infer is a POST")
def infer_on_get(target: Target) -> None:
    """GET of infer runs nothing: 4xx with an error."""
    expect_refused(target.http.get(target.model_path("infer")))
