"""What an issuer's server sends.

Source: the published contract of the Card PIN Control API. Members and parameters that it does not
know are ignored; those it knows are strict.
"""

from collections.abc import Mapping
from typing import Final

from starlette.requests import Request

from cms.domain.cards import parse_plastic_id
from cms.domain.errors import Invalid
from cms.faces.request import only
from cms.services.cardholder.pincontrol import ControlRequest
from crypto.errors import JoseError
from crypto.jose import json_object
from crypto.pan_text import holds_pan
from hsm.port import Purpose

AUDIT_USER_CHARS_MAX: Final = 128
SCOPES: Final[Mapping[str, Purpose]] = {"VIEW_PIN": Purpose.VIEW, "SET_PIN": Purpose.SET}


def read_audit_user(request: Request) -> str | None:
    """Read who asks, at the client; None: it is missing, there twice, not printable, or a PAN."""
    text = only(request, "auditUser")
    # The length first: to look for PANs in a long text takes long.
    fits = 1 <= len(text) <= AUDIT_USER_CHARS_MAX and text.isprintable() and text.strip() != ""
    if not fits or "\ufffd" in text:
        return None
    # Many are UUIDs, or other ids in which digits and letters mix by chance.
    return None if holds_pan(text, across_letters=False) else text


def read_control_request(text: str, audit_user: str | None, body: bytes) -> ControlRequest:
    """Read a request for a control id.

    Args:
        text: the plastic id in the path.
        audit_user: as :func:`read_audit_user` returns it.
        body: a JSON object with the scope.

    Raises:
        Invalid: naming what is not as published.
    """
    errors: list[tuple[str, str]] = []
    plastic_id = parse_plastic_id(text)
    if plastic_id is None:
        errors.append(("plasticId", "must be a number of 1 to 38 digits"))
    if audit_user is None:
        errors.append(("auditUser", "must be 1 to 128 printable characters, once"))
    try:
        scope = json_object.parse(body).get("scope")
    except JoseError:
        scope = None
    purpose = SCOPES.get(scope) if isinstance(scope, str) else None
    if purpose is None:
        errors.append(("scope", "must be VIEW_PIN or SET_PIN, in a JSON object"))
    if errors or plastic_id is None or purpose is None:
        raise Invalid(*errors)
    return ControlRequest(plastic_id, purpose)
