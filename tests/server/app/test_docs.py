"""The OpenAPI document is complete and true."""

import jsonschema_rs
import pytest

from server.classify.openapi import CLASSIFY_ERRORS, ERRORS, QUOTE_ERRORS
from server.errors import STATUS
from server.params import PARAMETERS
from tests.server.surface import photo, serving

CLASSIFY = "/v1/classify"
UNSEEN = {499}
"""No quota exists yet, and a caller who left reads no status."""


@pytest.fixture
async def client():
    async with serving() as client:
        yield client


@pytest.fixture
async def document(client):
    return (await client.get("/openapi.json")).json()


def operations(document):
    return [(path, operation) for path, methods in document["paths"].items() for operation in methods.values()]


def validator(document, schema):
    return jsonschema_rs.Draft202012Validator({**schema, "components": document["components"]})


def test_every_status_has_its_documentation():
    assert set(ERRORS) == set(STATUS.values()) - UNSEEN


def test_every_status_that_a_call_can_meet_is_listed(document):
    listed = set(document["paths"][CLASSIFY]["post"]["responses"])
    assert listed == {"200", *map(str, CLASSIFY_ERRORS)}
    assert set(CLASSIFY_ERRORS) == set(ERRORS) - {405}
    assert set(document["paths"]["/v1/models/{model}/quote"]["post"]["responses"]) == {"200", *map(str, QUOTE_ERRORS)}


def test_every_error_has_the_one_form_and_an_example(document):
    for path, operation in operations(document):
        assert "422" not in operation["responses"], path
        errors = [response for status, response in operation["responses"].items() if status != "200"]
        assert errors, path
        for response in errors:
            content = response["content"]["application/json"]
            assert content["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
            assert list(content["example"]) == ["error"]


def test_every_operation_is_explained(document):
    for path, operation in operations(document):
        assert len(operation["summary"].split()) >= 3, path
        assert operation["description"], path


def test_the_document_begins_with_what_newcomers_come_for(document):
    tags = [tag["name"] for tag in document["tags"]]
    assert tags[0] == "classify"
    assert {tag for _, operation in operations(document) for tag in operation["tags"]} == set(tags)


def test_every_operation_has_an_id_of_its_own(document):
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids))


def test_every_parameter_stands_in_all_its_places(document):
    classify = document["paths"][CLASSIFY]["post"]
    given = {(parameter["in"], parameter["name"]) for parameter in classify["parameters"]}
    content = classify["requestBody"]["content"]
    for parameter in PARAMETERS:
        assert {("query", parameter.name), ("header", parameter.header)} <= given
        for kind in ("application/json", "multipart/form-data"):
            assert content[kind]["schema"]["properties"][parameter.name]["description"] == parameter.description


def test_every_reference_leads_somewhere(document):
    schemas = document["components"]["schemas"]

    def references(node):
        if isinstance(node, dict):
            if "$ref" in node:
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        elif isinstance(node, list):
            for value in node:
                yield from references(value)

    names = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert names <= set(schemas)


def test_the_examples_fit_their_schemas(document):
    for _, operation in operations(document):
        for response in operation["responses"].values():
            for content in response.get("content", {}).values():
                if "example" in content:
                    validator(document, content["schema"]).validate(content["example"])
    schema = document["paths"][CLASSIFY]["post"]["requestBody"]["content"]["application/json"]
    validator(document, schema["schema"]).validate(schema["example"])


async def test_the_example_requests_work(client, document):
    classify = document["paths"][CLASSIFY]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert (await client.post(CLASSIFY, json=classify)).status_code == 200
    quote = document["paths"]["/v1/models/{model}/quote"]["post"]["requestBody"]["content"]["application/json"]
    assert (await client.post("/v1/models/adatape_fake/quote", json=quote["example"])).status_code == 200


@pytest.mark.parametrize("explain", ["true", "false"])
async def test_answers_fit_the_documented_schema(client, document, explain):
    schema = document["paths"][CLASSIFY]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    response = await client.post(CLASSIFY, params={"explain": explain}, files={"file": photo()})
    validator(document, schema).validate(response.json())


async def test_pages_fit_the_documented_schema(client, document):
    for path, methods in document["paths"].items():
        if "get" in methods and path != "/metrics":
            response = await client.get(path.replace("{model}", "adatape_fake"))
            schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
            validator(document, schema).validate(response.json())
