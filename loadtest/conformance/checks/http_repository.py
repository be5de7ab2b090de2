"""The model repository extension, and extensions that a server does not claim."""

from typing import Any

from loadtest.conformance.expect import Skip, expect, expect_equal, expect_in
from loadtest.conformance.messages import encode, json_message, read_answer
from loadtest.conformance.registry import TRITON, check
from loadtest.conformance.target import Target, expect_refused

SOURCE = "Triton model repository extension"
CLASSIFICATION = "Triton classification extension"
STATES = {"READY", "UNAVAILABLE", "LOADING", "UNLOADING", None}


def index(target: Target, body: bytes = b"") -> list[dict[str, Any]]:
    """Return the repository's index."""
    target.requires("model_repository")
    response = target.http.post("v2/repository/index", body)
    expect_equal(response.status, 200, "status")
    listed = response.json()
    expect(isinstance(listed, list) and bool(listed), listed, "a list of models")
    return list(listed)


@check("http.repository.index", TRITON, SOURCE)
def index_of_all(target: Target) -> None:
    """POST v2/repository/index without a body lists the models, this one as READY."""
    states = [each.get("state") for each in index(target) if each.get("name") == target.model.name]
    expect("READY" in states, f"states {states}", "READY among them")


@check("http.repository.index_members", TRITON, SOURCE)
def index_members(target: Target) -> None:
    """Every model of the index has a name; version, state and reason are strings where they are."""
    for each in index(target):
        expect(isinstance(each.get("name"), str), each, "a name")
        odd = [key for key in ("version", "state", "reason") if not isinstance(each.get(key, ""), str)]
        expect(not odd, f"{odd} of {each['name']}", "strings")
        expect_in(each.get("state"), STATES, f"state of {each['name']}")


@check("http.repository.index_ready", TRITON, SOURCE)
def index_ready(target: Target) -> None:
    """{"ready": true} leaves only models that are READY."""
    expect_equal({each.get("state") for each in index(target, b'{"ready": true}')}, {"READY"}, "states")


@check("http.repository.index_broken", TRITON, SOURCE)
def index_broken(target: Target) -> None:
    """An index call with broken JSON is refused."""
    target.requires("model_repository")
    expect_refused(target.http.post("v2/repository/index", b'{"ready": '))


@check("http.repository.index_verb", TRITON, SOURCE)
def index_verb(target: Target) -> None:
    """GET of the index is 405 with an error."""
    target.requires("model_repository")
    expect_refused(target.http.get("v2/repository/index"), {405})


@check("http.repository.load_unknown", TRITON, SOURCE)
def load_unknown(target: Target) -> None:
    """Loading an unknown model is refused with 4xx and an error."""
    target.requires("model_repository")
    expect_refused(target.http.post("v2/repository/models/no_such_model/load", b"{}"))


@check("http.repository.unload_unknown", TRITON, SOURCE)
def unload_unknown(target: Target) -> None:
    """Unloading an unknown model is refused with 4xx and an error."""
    target.requires("model_repository")
    expect_refused(target.http.post("v2/repository/models/no_such_model/unload", b"{}"))


@check("http.extensions.shared_memory", TRITON, "Triton shared memory extensions")
def shared_memory(target: Target) -> None:
    """Without the shared memory extension its calls are refused with an error."""
    if "system_shared_memory" in target.extensions:
        raise Skip("the server has shared memory")
    expect_refused(target.http.get("v2/systemsharedmemory/status"), set(range(400, 502)))


@check("http.extensions.shared_memory_input", TRITON, "Triton shared memory extensions")
def shared_memory_input(target: Target) -> None:
    """An input in a region that is not registered is refused."""
    (tensor, *_) = target.model.tensors()
    region = {"shared_memory_region": "no_such_region", "shared_memory_byte_size": 16}
    fields = {"name": tensor.name, "shape": list(tensor.shape), "datatype": tensor.datatype, "parameters": region}
    expect_refused(target.http.post(target.model_path("infer"), encode({"inputs": [fields]})))
    target.is_alive()


@check("http.extensions.logging", TRITON, "Triton logging extension")
def logging(target: Target) -> None:
    """v2/logging answers if the extension is listed, and is refused with an error if not."""
    response = target.http.get("v2/logging")
    if "logging" in target.extensions:
        expect_equal(response.status, 200, "status")
    else:
        expect_refused(response, set(range(400, 502)))


@check("http.extensions.trace", TRITON, "Triton trace extension")
def trace(target: Target) -> None:
    """v2/trace/setting answers if the extension is listed, and is refused with an error if not."""
    response = target.http.get("v2/trace/setting")
    if "trace" in target.extensions:
        expect_equal(response.status, 200, "status")
    else:
        expect_refused(response, set(range(400, 502)))


@check("http.classification.top", TRITON, CLASSIFICATION)
def top(target: Target) -> None:
    """classification=k gives the k best as BYTES of value:index or value:index:label, best first."""
    target.requires("classification")
    name = target.model.scores().name
    answer = target.ask(outputs=[{"name": name, "parameters": {"classification": 2}}])
    tensor = answer.outputs[name]
    expect_equal(tensor.datatype, "BYTES", "datatype")
    values = [item.decode().split(":") for item in tensor.items]
    expect(all(len(parts) >= 2 and parts[1].isdigit() for parts in values), values, "value:index[:label]")
    scores = [float(parts[0]) for parts in values]
    expect(len(scores) == 2 and scores[0] >= scores[1], scores, "two scores, best first")


@check("http.classification.index", TRITON, CLASSIFICATION)
def index_of_best(target: Target) -> None:
    """The best class is that of the largest score."""
    target.requires("classification")
    name = target.model.scores().name
    message = json_message(target.model.tensors(), outputs=[{"name": name, "parameters": {"classification": 1}}])
    (best,) = read_answer(target.infer(message)).outputs[name].items
    scores = list(target.ask().outputs[name].items)
    expect_equal(int(best.decode().split(":")[1]), scores.index(max(scores)), "index")


@check("http.classification.of_a_batch", TRITON, CLASSIFICATION)
def of_a_batch(target: Target) -> None:
    """Each sample of a batch has its own best classes."""
    target.requires("classification")
    name = target.model.scores().name
    answer = target.ask(2, outputs=[{"name": name, "parameters": {"classification": 3}}])
    expect_equal(answer.outputs[name].shape, (2, 3), "shape")


@check("http.classification.wrong", TRITON, CLASSIFICATION)
def wrong(target: Target) -> None:
    """A number of classes that is none is refused."""
    target.requires("classification")
    name = target.model.scores().name
    message = json_message(target.model.tensors(), outputs=[{"name": name, "parameters": {"classification": "two"}}])
    expect_refused(target.infer(message))
