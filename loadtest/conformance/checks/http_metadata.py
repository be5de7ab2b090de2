"""Metadata of the server and of the model, and the configuration."""

from typing import Any

from loadtest.conformance.expect import Skip, expect, expect_equal, expect_in
from loadtest.conformance.model import Json
from loadtest.conformance.registry import MUST, TRITON, check
from loadtest.conformance.target import CONTENT_JSON, Target, expect_refused
from loadtest.conformance.tensors import DATATYPES

SERVER, MODEL = "OIP REST, Server Metadata", "OIP REST, Model Metadata"
CONFIG = "Triton model configuration extension"
KNOWN_EXTENSIONS = {
    *("classification", "sequence", "model_repository", "model_repository(unload_dependents)", "schedule_policy"),
    *("model_configuration", "system_shared_memory", "cuda_shared_memory", "binary_tensor_data", "parameters"),
    *("statistics", "trace", "logging", "generate"),
}


def fetch(target: Target, path: str) -> Json:
    """Return the JSON object of a path that has to answer."""
    response = target.http.get(path)
    expect_equal(response.status, 200, f"status of {path}")
    document = response.json()
    expect(isinstance(document, dict), document, "a JSON object")
    return dict(document)


@check("http.server.metadata", MUST, SERVER)
def server_metadata(target: Target) -> None:
    """Server metadata has a name and a version, both strings."""
    document = fetch(target, "v2")
    for name in ("name", "version"):
        expect(isinstance(document.get(name), str), f"{name} {document.get(name)!r}", "a string")


@check("http.server.extensions", MUST, SERVER)
def server_extensions(target: Target) -> None:
    """Server metadata lists extensions as an array of strings, even if there are none."""
    listed = fetch(target, "v2").get("extensions")
    expect(isinstance(listed, list) and all(isinstance(name, str) for name in listed), listed, "a list of strings")


@check("http.server.extension_names", TRITON, "Triton server extensions")
def extension_names(target: Target) -> None:
    """Extensions have the names under which clients look for them, each once."""
    listed = fetch(target, "v2")["extensions"]
    expect(len(set(listed)) == len(listed), listed, "each extension once")
    unknown = [name for name in listed if name not in KNOWN_EXTENSIONS and "/" not in name and "." not in name]
    expect(not unknown, unknown, "known names, or names of a vendor with a dot or slash")


@check("http.server.trailing_slash", TRITON, "tritonclient.http: a base URL may end in a slash")
def trailing_slash(target: Target) -> None:
    """v2/ is v2."""
    expect_equal(fetch(target, "v2/"), fetch(target, "v2"), "metadata")


@check("http.server.content_type", MUST, "OIP REST: contents are JSON objects; RFC 9110 8.3")
def content_type(target: Target) -> None:
    """Metadata says that it is application/json."""
    kind = target.http.get("v2").header("content-type") or ""
    expect(kind.split(";")[0].strip() == CONTENT_JSON, f"Content-Type {kind!r}", CONTENT_JSON)


@check("http.model.metadata", MUST, MODEL)
def model_metadata(target: Target) -> None:
    """Model metadata has the model's name, its platform, and inputs and outputs."""
    document = fetch(target, target.model_path())
    expect_equal(document.get("name"), target.model.name, "name")
    expect(isinstance(document.get("platform"), str), f"platform {document.get('platform')!r}", "a string")
    for ports in ("inputs", "outputs"):
        expect(isinstance(document.get(ports), list) and document[ports], f"{ports} {document.get(ports)!r}", "a list")


@check("http.model.metadata_versions", MUST, MODEL)
def metadata_versions(target: Target) -> None:
    """Versions in model metadata are strings."""
    versions = fetch(target, target.model_path()).get("versions", [])
    expect(isinstance(versions, list) and all(isinstance(each, str) for each in versions), versions, "strings")


@check("http.model.metadata_ports", MUST, MODEL)
def metadata_ports(target: Target) -> None:
    """Every input and output has a name, a datatype of the protocol, and a shape of integers of -1 or more."""
    document = fetch(target, target.model_path())
    for port in [*document["inputs"], *document["outputs"]]:
        expect(isinstance(port.get("name"), str), port, "a name")
        expect_in(port.get("datatype"), DATATYPES, f"{port['name']} datatype")
        is_shape = isinstance(port.get("shape"), list) and all(type(n) is int and n >= -1 for n in port["shape"])
        expect(is_shape, port, "a shape of integers of -1 or more")


@check("http.model.metadata_version", MUST, MODEL)
def metadata_version(target: Target) -> None:
    """Model metadata can be asked by version."""
    document = fetch(target, target.model_path(version=target.model.version))
    expect_equal(document.get("name"), target.model.name, "name")


@check("http.model.metadata_unknown", MUST, MODEL)
def metadata_unknown(target: Target) -> None:
    """Metadata of an unknown model is 404 with an error."""
    expect_refused(target.http.get(target.model_path(name="no_such_model")), {404})


@check("http.model.metadata_unknown_version", MUST, MODEL)
def metadata_unknown_version(target: Target) -> None:
    """Metadata of an unknown version is 404 with an error."""
    expect_refused(target.http.get(target.model_path(version="999999")), {404})


@check("http.model.encoded_name", MUST, "RFC 3986 6.2.2.2: encoded unreserved characters are equivalent")
def encoded_name(target: Target) -> None:
    """A model's name may come percent-encoded."""
    name = "".join(f"%{byte:02X}" for byte in target.model.name.encode())
    expect_equal(fetch(target, f"v2/models/{name}").get("name"), target.model.name, "name")


def configuration(target: Target) -> Json:
    """Return the model's configuration."""
    target.requires("model_configuration")
    return fetch(target, target.model_path("config"))


@check("http.config", TRITON, CONFIG)
def config(target: Target) -> None:
    """The configuration has the model's name and its platform or backend: perf_analyzer asks for it first."""
    document = configuration(target)
    expect_equal(document.get("name"), target.model.name, "name")
    expect(bool(document.get("platform") or document.get("backend")), document, "a platform or a backend")


@check("http.config.max_batch_size", TRITON, CONFIG)
def config_max_batch_size(target: Target) -> None:
    """max_batch_size is a whole number of 0 or more."""
    size = configuration(target).get("max_batch_size")
    expect(type(size) is int and size >= 0, f"max_batch_size {size!r}", "an integer of 0 or more")


@check("http.config.ports", TRITON, CONFIG)
def config_ports(target: Target) -> None:
    """Inputs and outputs of the configuration are those of the metadata, with TYPE_ datatypes."""
    document = configuration(target)
    for kind, ports in (("input", target.model.inputs), ("output", target.model.outputs)):
        configured = {each["name"]: each["data_type"] for each in document[kind]}
        described = {
            port.name: "TYPE_STRING" if port.datatype == "BYTES" else f"TYPE_{port.datatype}" for port in ports
        }
        expect_equal(configured, described, kind)


@check("http.config.dims", TRITON, CONFIG)
def config_dims(target: Target) -> None:
    """Dims of the configuration are the shapes of the metadata without the batch."""
    document = configuration(target)
    skip = 1 if document["max_batch_size"] > 0 else 0
    ports = {port.name: list(port.shape[skip:]) for port in (*target.model.inputs, *target.model.outputs)}
    dims = {each["name"]: _dims(each) for each in [*document["input"], *document["output"]]}
    expect_equal(dims, ports, "dims")


@check("http.config.batch_dimension", TRITON, CONFIG)
def batch_dimension(target: Target) -> None:
    """Where max_batch_size is above 0, every shape of the metadata begins with -1."""
    if configuration(target)["max_batch_size"] == 0:
        raise Skip("the model has no batches")
    document = fetch(target, target.model_path())
    odd = [port["name"] for port in [*document["inputs"], *document["outputs"]] if port["shape"][:1] != [-1]]
    expect(not odd, f"{odd} without it", "-1 as first dimension")


@check("http.config.version", TRITON, CONFIG)
def config_version(target: Target) -> None:
    """The configuration can be asked by version."""
    target.requires("model_configuration")
    expect_equal(
        fetch(target, target.model_path("config", target.model.version)).get("name"), target.model.name, "name"
    )


@check("http.config.unknown", TRITON, CONFIG)
def config_unknown(target: Target) -> None:
    """The configuration of an unknown model is refused with an error."""
    target.requires("model_configuration")
    expect_refused(target.http.get(target.model_path("config", name="no_such_model")))


def _dims(port: Json) -> Any:
    dims = (port.get("reshape") or {}).get("shape") or port["dims"]
    return [int(size) for size in dims]
