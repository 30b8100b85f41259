"""A face's OpenAPI 3.1 document, made of what stands beside its routes.

Source: OpenAPI Specification 3.1.1. Paths name the versions of the published contracts.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from cms.faces.operation import About, Answered, Content, Operation
from cms.faces.refusals import Refusal, by_status
from cms.faces.routes import Route

VERSION: Final = "3.1.1"
DOCUMENT_VERSION: Final = "1"
REFERENCE: Final = "#/components/schemas/{name}"
ERROR: Final = "Error"
#: What every refusal of a status has; RFC 9110, 10.2.3 and 11.6.1.
HEADERS: Final[Mapping[int, Mapping[str, str]]] = {
    401: {"WWW-Authenticate": "How to prove who calls."},
    429: {"Retry-After": "Seconds until it may be tried again."},
    503: {"Retry-After": "Seconds until it may be tried again."},
}


def document(about: About, routes: Iterable[Route]) -> dict[str, Any]:
    """Describe a face.

    Args:
        about: the face.
        routes: all that it serves.
    """
    table = [(route, route.operation) for route in routes]
    schemas = _schemas(about, [operation for _, operation in table])
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in table:
        for method in route.methods.split():
            described = _operation(operation, method, route.path, schemas)
            paths.setdefault(route.path, {})[method.lower()] = described
    made: dict[str, Any] = {
        "openapi": VERSION,
        "info": {
            "title": about.title,
            "version": DOCUMENT_VERSION,
            "description": about.description,
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": dict(about.security)},
        "tags": [{"name": name, "description": text} for name, text in about.tags.items()],
    }
    return made


def operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method (upper case) and operation of all that a document describes."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _schemas(about: About, table: Sequence[Operation]) -> dict[str, Any]:
    """Make the schemas of all types."""
    contents = [content for operation in table for content in _contents(operation)]
    models = {content.of for content in contents if isinstance(content.of, type)}
    if isinstance(about.error, type):
        models.add(about.error)
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=REFERENCE)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    if isinstance(about.error, type):
        schemas[ERROR] = schemas.pop(about.error.__name__)
    elif about.error:
        schemas[ERROR] = dict(about.error)
    return dict(sorted(schemas.items()))


def _contents(operation: Operation) -> Iterator[Content]:
    yield from operation.body
    for answer in operation.answers.values():
        yield from answer.contents


def _operation(
    operation: Operation, method: str, path: str, schemas: Mapping[str, Any]
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": "_".join([method.lower(), *re.findall(r"\w+", path)]),
        "summary": operation.summary,
        "responses": _responses(operation, schemas),
    }
    if operation.tag:
        made["tags"] = [operation.tag]
    if operation.description:
        made["description"] = operation.description
    if operation.parameters:
        made["parameters"] = list(operation.parameters)
    if operation.body:
        content = {body.media_type: _content(body, schemas) for body in operation.body}
        made["requestBody"] = {"required": operation.body_required, "content": content}
    if operation.security:
        made["security"] = [{name: [] for name in operation.security}]
    if operation.deprecated:
        made["deprecated"] = True
    if method == "HEAD":
        for response in made["responses"].values():
            response.pop("content", None)
    return made


def _responses(operation: Operation, schemas: Mapping[str, Any]) -> dict[str, Any]:
    made = {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()}
    for status, refusals in by_status(operation.refusals).items():
        made[str(status)] = _refused(status, refusals)
    return made


def _answer(answer: Answered, schemas: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        made["headers"] = _headers(answer.headers)
    if answer.contents:
        made["content"] = {each.media_type: _content(each, schemas) for each in answer.contents}
    return made


def _refused(status: int, refusals: Sequence[Refusal]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "description": "\n".join(
            f"* `{_code(refusal)}`: {refusal.meaning} {refusal.caller_does}" for refusal in refusals
        ),
        "content": {},
    }
    if status in HEADERS:
        made["headers"] = _headers(HEADERS[status])
    for media_type in {refusal.media_type: None for refusal in refusals}:
        of_type = [refusal for refusal in refusals if refusal.media_type == media_type]
        made["content"][media_type] = _refused_content(of_type)
    return made


def _refused_content(refusals: Sequence[Refusal]) -> dict[str, Any]:
    bodies = [refusal for refusal in refusals if not isinstance(refusal.body, str)]
    if not bodies:
        return {"schema": {}}
    codes: dict[str, dict[str, list[object]]] = {}
    for refusal in bodies:
        known = codes.setdefault(refusal.code, {"enum": []})["enum"]
        if _code(refusal) not in known:
            known.append(_code(refusal))
    schema = {"allOf": [{"$ref": REFERENCE.format(name=ERROR)}, {"properties": codes}]}
    examples = {
        f"{number}-{_code(refusal).replace(' ', '-')}": {
            "summary": refusal.meaning,
            "value": refusal.body,
        }
        for number, refusal in enumerate(bodies, start=1)
    }
    return {"schema": schema, "examples": examples}


def _code(refusal: Refusal) -> str:
    """Return what tells a refusal apart from others of its status."""
    return refusal.body if isinstance(refusal.body, str) else str(refusal.body[refusal.code])


def _headers(headers: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"description": text, "required": True, "schema": {"type": "string"}}
        for name, text in headers.items()
    }


def _content(content: Content, schemas: Mapping[str, Any]) -> dict[str, Any]:
    schema: Any = content.of
    if isinstance(content.of, type):
        schema = {"$ref": REFERENCE.format(name=content.of.__name__)}
    example = content.example if content.example is not None else _example(schema, schemas)
    return {"schema": schema} if example is None else {"schema": schema, "example": example}


def _example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Make an example of the first example of each member; None: there is none."""
    match schema:
        case {"$ref": reference}:
            return _example(schemas[reference.rpartition("/")[2]], schemas)
        case {"examples": [first, *_]} | {"enum": [first, *_]} | {"const": first}:
            return first
        case {"anyOf": [first, *_]}:
            return _example(first, schemas)
        case {"type": "array"}:
            item = _example(schema.get("items", {}), schemas)
            return [] if item is None else [item]
        case {"properties": properties}:
            members = {name: _example(each, schemas) for name, each in properties.items()}
            return {name: value for name, value in members.items() if value is not None} or None
    return None
