"""Holds every answer of a face to what the face's OpenAPI document says of it."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from jsonschema_rs import Draft202012Validator
from starlette.types import Message, Receive, Scope, Send

from cms.faces.openapi import operations
from cms.faces.routes import Face
from cms.interfaces import documents

JSON: Final = "application/json"
SERVE: Final = Face._serve


@cache
def described() -> Mapping[tuple[str, str], tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """The operation and the document of each path and method, of all faces."""
    return {
        (path, method): (operation, document)
        for document in documents().values()
        for path, method, operation in operations(document)
    }


@cache
def validator(path: str, method: str, status: str) -> Draft202012Validator:
    operation, document = described()[path, method]
    schema = operation["responses"][status]["content"][JSON]["schema"]
    return Draft202012Validator({**schema, "components": document["components"]})


def faults(
    path: str, method: str, status: int, headers: Mapping[str, str], body: bytes
) -> Iterator[str]:
    """Say what an answer has that the document has not, or lacks."""
    where = f"{method} {path} {status}"
    operation, _ = described()[path, method]
    answer = operation["responses"].get(str(status))
    if answer is None:
        yield f"{where}: is not described"
        return
    for name in answer.get("headers", {}):
        if name.lower() not in headers:
            yield f"{where}: lacks the header {name}"
    contents = answer.get("content", {})
    if method == "HEAD":  # the server sends no body
        return
    if not body:
        if contents:
            yield f"{where}: has no body"
        return
    media_type = headers.get("content-type", "").partition(";")[0]
    if media_type not in {name.partition(";")[0] for name in contents}:
        yield f"{where}: is {media_type}"
    elif media_type == JSON:
        for error in validator(path, method, str(status)).iter_errors(json.loads(body)):
            yield f"{where}: {error.instance_path} {error.message[:200]}"


@contextmanager
def all_answers_described() -> Iterator[list[str]]:
    """Watch what faces answer inside the block; fill the list with what is not as described.

    What no route answers is not looked at, nor what a test has made of a face, nor what is sent on
    to a second deployment: that may be another release.
    """
    found: list[str] = []

    async def serve(face: Face, scope: Scope, receive: Receive, send: Send) -> None:
        messages: list[Message] = []

        async def watched(message: Message) -> None:
            messages.append(message)
            await send(message)

        await SERVE(face, scope, receive, watched)
        route, method = scope.get("route"), scope["method"]
        if route is None or method not in route.methods.split():
            return
        sent_on = dict(scope["headers"]).get(b"x-us-env", b"").strip().lower() == b"true"
        if (route.path, method) in described() and not sent_on:
            start, *rest = messages
            headers = {name.decode(): value.decode("latin-1") for name, value in start["headers"]}
            body = b"".join(message.get("body", b"") for message in rest)
            found.extend(faults(route.path, method, start["status"], headers, body))

    Face._serve = serve  # type: ignore[assignment,method-assign]
    try:
        yield found
    finally:
        Face._serve = SERVE  # type: ignore[method-assign]
