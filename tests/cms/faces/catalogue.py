"""Write ``docs/errors.md``, the catalogue of every error: ``python -m tests.cms.faces.catalogue``.

All of it is read from the code: the tables by which faces answer, what the vault's errors become,
and what is said where a request cannot be read.
"""

import ast
import inspect
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

import cms.protocol
import hsm.errors
from cms import interfaces
from cms.domain.errors import DomainError
from cms.faces import ops
from cms.faces.cardholder.hosted import auth, cards
from cms.faces.cardholder.hosted import problems as hosted
from cms.faces.cardholder.hosted import schemas as hosted_schemas
from cms.faces.cardholder.page import style
from cms.faces.cardholder.pincontrol import operation_requests
from cms.faces.cardholder.pincontrol import problems as pincontrol
from cms.faces.cardholder.pincontrol import schemas as pincontrol_schemas
from cms.faces.d1 import problems as d1
from cms.faces.refusals import Refusal, meaning_of
from cms.services.cardholder import pre_shared
from cms.services.vault import in_words_of_the_domain
from hsm.errors import HsmError

PAGE: Final = Path(__file__).resolve().parents[3] / "docs" / "errors.md"
INTRODUCTION: Final = """# Errors

Every way in which the service says no, with what it means and what the caller does about it.
`make errors` writes this page from the code. What each call may answer is in the OpenAPI document
of its face, which an operator reads at `/interfaces` of the operations listener, or prints:

```
python -m cms openapi d1
```

What is behind an answer, where the answer must not say it, is in the [audit](auditing.md), and in
the log under the request's `x-correlation-id`.
"""
BEFORE: Final = """## Before any face

A request that cannot be read, or that comes too slowly, gets an answer in plain text from every
listener, and the connection ends. Callers send requests as RFC 9112 has them.

| status | text |
|---|---|
"""
HEADINGS: Final = {
    "d1": (
        "The D1 face",
        "`errorCode` and `error`; the issuer's wire profile may give the members other names.",
    ),
    "hosted": ("The hosted face", "JSON, an image for `/details-image`, a page for a page."),
    "pincontrol": ("The pincontrol face, and PIN operations", "`errorCode` and `errorReason`."),
    "ops": ("The operations listener", "Beside these, `/readyz` is 503 and says why."),
}
VAULT: Final = """## What becomes of the vault's errors

The column *from* above names the error of the service that leads to an answer. These are the
errors of the vault, and what they become. Those without are defects, if a face meets them. The
layout of SECCOS is not public: [ours](seccos.md) is a profile.

| of the vault | meaning | becomes |
|---|---|---|
"""
ROUTING: Final[Mapping[str, Sequence[Refusal]]] = {
    "d1": d1.routing_refusals(),
    "hosted": hosted.refusals(statuses=[404, 405])[:2],
    "pincontrol": pincontrol.refusals(statuses=[404, 405])[:2],
    "ops": ops.ROUTING_REFUSALS,
}
NAMED: Final = """### What is named as invalid

| member | what is said of it |
|---|---|
"""


def page() -> str:
    """Return the whole page."""
    parts = [INTRODUCTION, BEFORE + "".join(f"{line}\n" for line in unreadable())]
    for name, refusals in by_face().items():
        heading, text = HEADINGS[name]
        parts.append(f"## {heading}\n\n{text}\n\n{table(name, refusals)}")
        if name in FIELDS:
            lines = (f"| `{member}` | {said} |\n" for member, said in FIELDS[name]())
            parts.append(NAMED + "".join(lines))
    parts.append(VAULT + "".join(f"{line}\n" for line in of_the_vault()))
    return "\n".join(parts)


def by_face() -> dict[str, list[Refusal]]:
    """List how each face says no, each way once: by status, as the routes have them."""
    found: dict[str, list[Refusal]] = {}
    for about, routes in interfaces.tables():
        known: list[Refusal] = []
        operations = [refusal for route in routes for refusal in route.operation.refusals]
        for refusal in (*operations, *ROUTING[about.name]):
            if refusal not in known:
                known.append(refusal)
        found[about.name] = sorted(known, key=lambda refusal: refusal.status)
    return found


def table(face: str, refusals: Sequence[Refusal]) -> str:
    """Write the ways of a face, a line each."""
    lines = ["| status | answer | meaning | what the caller does | from |", "|---|---|---|---|---|"]
    lines += [
        f"| {refusal.status} | {answer(face, refusal)} | {refusal.meaning} | {refusal.caller_does}"
        f" | {name_of(refusal.error)} |"
        for refusal in refusals
    ]
    return "\n".join(lines) + "\n"


def answer(face: str, refusal: Refusal) -> str:
    """Say what is answered: the members that are always the same."""
    if isinstance(refusal.body, str):
        kind = "page" if refusal.media_type == "text/html" else "PNG"
        return f"{kind}: {refusal.body.removeprefix('an image: ')}"
    if face == "pincontrol":
        return f"`{refusal.body['errorCode']}` {refusal.body['errorReason']}"
    if face == "d1":
        return f"`{refusal.body['errorCode']}` {refusal.body['error']}"
    return f"`{json.dumps(refusal.body)}`"


def of_the_vault() -> Iterator[str]:
    """Write a line for each error of the vault."""
    for kind in vault_errors():
        meant = becomes(kind)
        yield f"| {name_of(kind)} | {meaning_of(kind)} | {name_of(meant)} |"


def name_of(kind: type[Exception] | None) -> str:
    """Name an error, or nothing."""
    return "" if kind is None else f"`{kind.__name__}`"


def vault_errors() -> list[type[HsmError]]:
    """List every error of the vault, in the order of their module."""
    return [
        kind
        for kind in vars(hsm.errors).values()
        if isinstance(kind, type) and issubclass(kind, HsmError) and kind is not HsmError
    ]


def becomes(kind: type[HsmError]) -> type[DomainError] | None:
    """Return what an error of the vault becomes; None: a defect."""
    logging.disable()
    try:
        with in_words_of_the_domain():
            raise kind
    except DomainError as error:
        return type(error)
    except HsmError:
        return None
    finally:
        logging.disable(logging.NOTSET)


def domain_errors() -> list[type[DomainError]]:
    """List every error of the domain."""
    return DomainError.__subclasses__()


def unreadable() -> Iterator[str]:
    """Write a line for each text of the protocol."""
    found: dict[tuple[int, str], None] = {}
    for call in calls(cms.protocol):
        texts = [each.value for each in call.args if isinstance(each, ast.Constant)]
        match call.func:
            case ast.Name("Malformed"):
                found[400, str(texts[0])] = None
            case ast.Attribute(attr="_refuse"):
                if isinstance(texts[-1], str) and len(texts) == len(call.args):
                    found[int(str(texts[1])), texts[-1]] = None
    for status, text in sorted(found):
        yield f"| {status} | {text} |"


def hosted_named() -> list[tuple[str, str]]:
    """List what the hosted face says of members."""
    of_style = [
        ("customCss.*Color", style._COLOUR_MESSAGE),
        ("customCss.*Radius", style._RADIUS_MESSAGE),
        ("customCss.*Color", "Must not be the same color as …"),
    ]
    return [*literal_fields(hosted_schemas, auth, cards), *of_style]


def pincontrol_named() -> list[tuple[str, str]]:
    """List what the pincontrol face says of members and parameters."""
    blocks = [
        ("pinBlock", operation_requests.HEX_SHAPE),
        ("pinBlock", operation_requests.BASE64_SHAPE),
    ]
    shapes = operation_requests.SHAPES.items()
    found = [*literal_fields(pincontrol_schemas, pre_shared), *shapes, *blocks]
    return [*dict.fromkeys(found)]


def literal_fields(*modules: ModuleType) -> Iterator[tuple[str, str]]:
    """Find the pairs of member and text that modules refuse with."""
    for module in modules:
        for call in calls(module):
            match call.func:
                case ast.Name("Invalid") | ast.Attribute(attr="append"):
                    yield from pairs(call.args)


def pairs(arguments: Sequence[ast.expr]) -> Iterator[tuple[str, str]]:
    """Yield the arguments that are pairs of texts."""
    for argument in arguments:
        match argument:
            case ast.Tuple([ast.Constant(str(member)), ast.Constant(str(text))]):
                yield member, text


def calls(module: ModuleType) -> Iterator[ast.Call]:
    """Yield every call in a module's source."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call):
            yield node


FIELDS: Final[Mapping[str, Callable[[], Sequence[tuple[str, str]]]]] = {
    "hosted": hosted_named,
    "pincontrol": pincontrol_named,
}

if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
