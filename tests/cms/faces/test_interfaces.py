"""The OpenAPI documents: valid, of every route and of nothing else, as the contracts say."""

import json
import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any
from unittest.mock import MagicMock

import httpx
import pytest
import schemathesis
from jsonschema_rs import Draft202012Validator, meta

import cms.__main__
from cms import interfaces
from cms.faces import NAMES
from cms.faces.openapi import operations
from cms.faces.ops import ops_app
from tests.cms.faces.conformity import described

pytestmark = pytest.mark.anyio
DOCUMENTS = interfaces.documents()
D1_CARD = "/cms/api/v1/issuers/{issuerId}/cards/{cardId}"
#: What each published contract has: path and method, the status of success, and the members of its
#: answer; then statuses of refusals, and where they stand what has to be sent.
CONTRACTS: Mapping[str, Mapping[tuple[str, str], tuple[int, set[str], set[int], set[str]]]] = {
    "d1": {
        (f"{D1_CARD}/pin", "GET"): (200, {"encryptedPinBlock"}, set(), set()),
        (f"{D1_CARD}/pin", "PUT"): (204, set(), set(), {"type", "encryptedPinBlock"}),
        (f"{D1_CARD}/pin/changeCounter", "GET"): (200, set(), set(), set()),
        ("/cms/api/v1/issuers/{issuerId}/physicalCards/{cardId}/activate", "POST"): (
            *(204, set(), set()),
            set(),
        ),
        ("/authz/d1/v1/oauth2/token", "POST"): (
            *(200, {"access_token", "token_type", "expires_in", "scope"}, {400, 401}),
            {"grant_type"},
        ),
    },
    "hosted": {
        ("/v1/card/pin/token", "POST"): (
            *(200, {"token", "imageUrl"}, {401, 403, 404, 422, 498, 499, 500}),
            set(),
        ),
        ("/v1/card/set-pin/token", "POST"): (
            *(200, {"token", "hostedPageUrl"}, {401, 403, 404, 498, 499, 500}),
            set(),
        ),
    },
    "pincontrol": {
        ("/pincontrol/v2/plastic/{plasticId}", "POST"): (
            *(201, {"id", "pinURL", "pinFrameURL"}, {401, 403, 404, 500}),
            {"scope"},
        ),
        ("/pin/v2/{plasticId}", "GET"): (200, {"pinBlock"}, set(), set()),
        ("/pin/v2/{plasticId}", "POST"): (200, set(), set(), {"zpkIndex", "pinBlock"}),
        ("/pin/v3/view", "POST"): (200, {"tzpk", "pinBlock"}, set(), {"controlId", "publicKey"}),
        ("/pin/v3/set/tzpk", "POST"): (200, {"tzpk"}, set(), {"controlId", "publicKey"}),
        ("/pin/v3/set", "POST"): (200, set(), set(), {"controlId", "pinBlock"}),
    },
}
PARAMETERS = {
    ("d1", f"{D1_CARD}/pin", "GET"): {"issuerId", "cardId", "x-correlation-id"},
    ("hosted", "/v1/card/pin/token", "POST"): {"x-us-env"},
    ("pincontrol", "/pincontrol/v2/plastic/{plasticId}", "POST"): {"plasticId", "auditUser"},
    ("pincontrol", "/pin/v2/{plasticId}", "GET"): {"plasticId", "auditUser", "zpkIndex"},
    ("pincontrol", "/pin/v2/{plasticId}", "POST"): {"plasticId", "auditUser"},
    ("pincontrol", "/pin/v3/view", "POST"): {"auditUser"},
}
#: Of the contract's object, each a member and its type.
ERROR_MEMBERS = {"code", "message", "id", "errorCode", "errorType", "errorReason", "timestamp"}
SET_PAGE_STYLE = {
    "backgroundColor": "#efefef",
    "textColor": "#000000",
    "backgroundColorPrimary": "#000000",
    "textColorPrimary": "#ffffff",
    "buttonBorderRadius": 8,
    "pinBorderRadius": 4,
    "pinBorderColor": "#000000",
}


def contents(document: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:  # noqa: ANN401 - JSON
    """Every media type of a document that has a schema, and what it is called."""
    for path, method, operation in operations(document):
        of_request = operation.get("requestBody", {}).get("content", {})
        of_answers = [answer.get("content", {}) for answer in operation["responses"].values()]
        for content in (of_request, *of_answers):
            for media_type, body in content.items():
                yield f"{method} {path} {media_type}", body


def members(document: Mapping[str, Any], content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The properties of a body, wherever its schema stands."""
    schema = content["schema"]
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    properties: Mapping[str, Any] = schema.get("properties", {})
    return properties


@pytest.mark.parametrize("face", NAMES)
def test_a_document_is_valid(face: str) -> None:
    document = dict(DOCUMENTS[face])
    assert document["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(document).validate()
    ids = [operation["operationId"] for *_, operation in operations(document)]
    assert len({*ids}) == len(ids)
    for path, _, operation in operations(document):
        declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert declared == {*re.findall(r"{(\w+)}", path)}


def test_a_document_that_is_not_valid_is_found() -> None:
    document = json.loads(json.dumps(DOCUMENTS["d1"]))
    document["paths"][f"{D1_CARD}/pin"]["get"]["responses"]["200"].pop("description")
    with pytest.raises(Exception, match="description"):
        schemathesis.openapi.from_dict(document).validate()


@pytest.mark.parametrize("face", NAMES)
def test_schemas_are_valid_and_examples_are_as_they_say(face: str) -> None:
    document = DOCUMENTS[face]
    examples = 0
    for name, content in contents(document):
        schema = {**content["schema"], "components": document["components"]}
        meta.validate(schema)
        shown = [each["value"] for each in content.get("examples", {}).values()]
        shown += [content["example"]] if "example" in content else []
        for example in shown:
            faults = [*Draft202012Validator(schema).iter_errors(example)]
            assert not faults, (name, faults)
            examples += 1
    assert examples > 0


@pytest.mark.parametrize(("about", "routes"), interfaces.tables(), ids=NAMES)
def test_every_route_is_in_the_document_and_nothing_else(about: Any, routes: Any) -> None:  # noqa: ANN401
    served = {(route.path, method) for route in routes for method in route.methods.split()}
    described = {(path, method) for path, method, _ in operations(DOCUMENTS[about.name])}
    assert served == described


def test_the_faces_have_the_names_that_are_typed() -> None:
    assert tuple(DOCUMENTS) == NAMES


@pytest.mark.parametrize(
    ("face", "path", "method"), [(face, *key) for face, calls in CONTRACTS.items() for key in calls]
)
def test_a_call_is_as_its_contract_is_published(face: str, path: str, method: str) -> None:
    document = DOCUMENTS[face]
    success, answered, refused, sent = CONTRACTS[face][path, method]
    operation = document["paths"][path][method.lower()]
    statuses = {int(status) for status in operation["responses"]}
    assert success in statuses
    assert {status for status in statuses if 200 <= status < 300} == {success}
    assert refused <= statuses
    (content,) = operation["responses"][str(success)].get("content", {}).values() or [None]
    if answered:
        assert content is not None
        assert answered <= members(document, content).keys()
    for body in operation.get("requestBody", {}).get("content", {}).values():
        assert {*body["schema"].get("required", [])} == sent
    for name in PARAMETERS.get((face, path, method), set()):
        assert name in {parameter["name"] for parameter in operation["parameters"]}


def test_what_the_contracts_say_of_members_is_in_the_schemas() -> None:
    pincontrol, hosted, d1 = (DOCUMENTS[face] for face in ("pincontrol", "hosted", "d1"))
    assert pincontrol["components"]["schemas"]["Error"]["properties"].keys() == ERROR_MEMBERS
    body = hosted["paths"]["/v1/card/set-pin/token"]["post"]["requestBody"]
    assert not body["required"]
    schema = body["content"]["application/json"]["schema"]["properties"]
    assert schema.keys() == {"redirectUrl", "isEmbedded", "customCss"}
    style = schema["customCss"]["properties"]
    assert {name: member["default"] for name, member in style.items()} == SET_PAGE_STYLE
    issuer, card = d1["paths"][f"{D1_CARD}/pin"]["get"]["parameters"][:2]
    assert (issuer["schema"]["minLength"], issuer["schema"]["maxLength"]) == (10, 10)
    assert card["schema"]["pattern"] == "^[A-Za-z0-9_-]{1,48}$"
    put = d1["paths"][f"{D1_CARD}/pin"]["put"]["requestBody"]["content"]["application/json"]
    assert put["schema"]["properties"]["encryptedPinBlock"]["maxLength"] == 8192
    set_pin = pincontrol["paths"]["/pin/v2/{plasticId}"]["post"]["requestBody"]["content"]
    block = set_pin["application/json"]["schema"]["properties"]["pinBlock"]
    assert (block["minLength"], block["maxLength"]) == (16, 16)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, "Not authenticated"),
        (403, "Not authorized"),
        (404, "Card not found"),
        (422, "Validation error"),
        (498, "Invalid client key"),
        (499, "Missing client key"),
        (500, "Internal server error"),
    ],
)
def test_the_hosted_face_refuses_as_its_contract_is_published(status: int, message: str) -> None:
    operation = DOCUMENTS["hosted"]["paths"]["/v1/card/pin/token"]["post"]
    examples = operation["responses"][str(status)]["content"]["application/json"]["examples"]
    assert {example["value"]["message"] for example in examples.values()} == {message}


@pytest.mark.parametrize("face", NAMES)
def test_the_command_prints_the_document(face: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cms.__main__.main(["openapi", face]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(DOCUMENTS[face]))


class Page(HTMLParser):
    """What a page would load or run."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loads += [name for name, _ in attrs if name == "src" or name.startswith("on")]


async def test_operators_read_them_and_a_request_makes_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = ops_app(MagicMock(), MagicMock(), interfaces.shown())
    assert described()  # what watches over the answers here has its own
    monkeypatch.setattr(interfaces, "document", None)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://ops") as http:
        listed = await http.get("/interfaces")
        for face in NAMES:
            assert f'href="/interfaces/{face}"' in listed.text
            assert f'href="/openapi/{face}"' in listed.text
            page = await http.get(f"/interfaces/{face}")
            read = Page(page.text)
            assert not read.loads
            assert not read.tags & {"script", "link", "img", "iframe", "form"}
            policy = page.headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "unsafe" not in policy
            for path, *_ in operations(DOCUMENTS[face]):
                assert path in page.text
            document = await http.get(f"/openapi/{face}")
            assert document.headers["content-type"] == "application/json"
            assert document.json() == json.loads(json.dumps(DOCUMENTS[face]))
        for path in ("/interfaces/no", "/openapi/d1.json", "/openapi", "/docs"):
            assert (await http.get(path)).status_code == 404


def test_no_public_listener_has_them() -> None:
    public = {path for face in NAMES if face != "ops" for path in DOCUMENTS[face]["paths"]}
    assert not [path for path in public if path.startswith(("/interfaces", "/openapi", "/docs"))]
