"""What every face offers: its OpenAPI document, and pages to read it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from starlette.responses import Response

from cms.faces import ops
from cms.faces.cardholder.hosted import described as hosted
from cms.faces.cardholder.hosted.app import hosted_app
from cms.faces.cardholder.pincontrol import described as pincontrol
from cms.faces.cardholder.pincontrol.app import operations_app, pincontrol_app
from cms.faces.d1 import described as d1
from cms.faces.d1.app import d1_app
from cms.faces.openapi import document
from cms.faces.operation import About
from cms.faces.ops import INTERFACES_PATH, OPENAPI_PATH, ops_app
from cms.faces.reading_page import document_page, list_page
from cms.faces.routes import Route


class _Unused:
    """Stands for every service of a face whose routes are listed, and never called."""

    def __getattr__(self, _: str) -> "_Unused":
        return self


_UNUSED: Final[Any] = _Unused()
_ADDRESS: Final = "https://cards.example"


def tables() -> Sequence[tuple[About, Sequence[Route]]]:
    """List the faces, each with all of its routes."""
    pages, operations = pincontrol_app(_UNUSED, _ADDRESS), operations_app(_UNUSED)
    return (
        (d1.ABOUT, d1_app(_UNUSED, _UNUSED, _UNUSED, _UNUSED, _UNUSED).table),
        (hosted.ABOUT, hosted_app(_UNUSED, _ADDRESS).table),
        (pincontrol.ABOUT, [*pages.table, *operations.table]),
        (ops.ABOUT, ops_app(_UNUSED, _UNUSED, {}).table),
    )


def documents() -> Mapping[str, Mapping[str, Any]]:
    """Make the OpenAPI document of each face, by its name."""
    return {about.name: document(about, routes) for about, routes in tables()}


def shown() -> ops.Documents:
    """Make all that the ops listener shows of them, by its path."""
    made = documents()
    titles = {f"{INTERFACES_PATH}/{name}": each["info"]["title"] for name, each in made.items()}
    found: dict[str, Response] = {INTERFACES_PATH: list_page(titles, OPENAPI_PATH)}
    for name, each in made.items():
        found[f"{INTERFACES_PATH}/{name}"] = document_page(each)
        encoded = msgspec.json.encode(each)
        found[f"{OPENAPI_PATH}/{name}"] = Response(encoded, media_type="application/json")
    return found
