"""The control id that an app's webview posts, in every form in which apps post it.

The contract has a form field ``controlId``. Apps built for the next generation of that API post
JSON with ``pinControlId``. A webview of iOS names no type for its form.
"""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from cms.domain.errors import BadRequest, Field
from cms.faces.request import FORM, form_fields, media_type, read_body
from crypto.errors import JoseError
from crypto.jose import json_object

BODY_BYTES_MAX: Final = 1024
NAMES: Final = ("controlId", "pinControlId")


async def posted_control_id(request: Request) -> str:
    """Read the control id of a POST; it may be of any shape, or empty.

    Raises:
        BadRequest: the body is of another type, too long, or has no such field, or two that differ.
    """
    fields = await _fields(request)
    ids = [fields[name] for name in NAMES if name in fields]
    if not ids or not isinstance(ids[0], str) or ids[0] != ids[-1]:
        raise BadRequest(Field.BODY)
    return ids[0]


async def _fields(request: Request) -> Mapping[str, object]:
    body = await read_body(request, BODY_BYTES_MAX)
    kind = media_type(request)
    if kind in ("", FORM):
        return form_fields(body)
    if kind != "application/json":
        raise BadRequest(Field.BODY)
    try:
        return json_object.parse(body)
    except JoseError:
        raise BadRequest(Field.BODY) from None
