"""What faces read from a request: body, query, address and credentials."""

import base64
from collections.abc import Collection
from typing import Final
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect, Request

from cms.domain.errors import BadRequest, Field, Unauthorized

BODY_BYTES_MAX: Final = 16 * 1024
FORM: Final = "application/x-www-form-urlencoded"
FORM_FIELDS_MAX: Final = 16


def only(request: Request, name: str) -> str:
    """Return a query parameter; one that is missing or there twice is empty."""
    query = request.scope["query_string"].decode("latin-1")
    values = [value for key, value in parse_qsl(query, keep_blank_values=True) if key == name]
    return values[0] if len(values) == 1 else ""


def address(request: Request, proxy_peers: Collection[str]) -> str:
    """Return the address of the caller: the peer's, or what a proxy of ours says.

    Raises:
        BadRequest: somebody else says so, or it is said twice.
    """
    peer = request.client.host if request.client else "unix"
    forwarded = _values(request, b"x-forwarded-for")
    if not forwarded:
        return peer
    if peer not in proxy_peers or len(forwarded) > 1:
        raise BadRequest(Field.FORWARDED_FOR)
    return forwarded[0].rpartition(",")[2].strip() or peer


async def read_body(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Read a body of at most *bytes_max*.

    Raises:
        BadRequest: it is longer, or the caller went away.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > bytes_max:
                raise BadRequest(Field.BODY)
    except ClientDisconnect:
        raise BadRequest(Field.BODY) from None
    return bytes(body)


def media_type(request: Request) -> str:
    """Return the media type of the body, in lower case, without parameters; empty: it has none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def read_form(request: Request, body: bytes) -> dict[str, str]:
    """Read a form; a parameter that stands twice is refused (RFC 6749, 3.2).

    Raises:
        BadRequest: it is no such form.
    """
    if media_type(request) != FORM:
        raise BadRequest(Field.BODY)
    return form_fields(body)


def form_fields(body: bytes) -> dict[str, str]:
    """Read the fields of a form, whatever its type is said to be; none may stand twice.

    Raises:
        BadRequest: it is no such form.
    """
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX
        )
    except ValueError:
        raise BadRequest(Field.BODY) from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadRequest(Field.BODY)
    return form


def basic_credentials(request: Request) -> tuple[str, str]:
    """Read HTTP Basic (RFC 7617); base64url is taken too, as D1 writes it, padded or not.

    Raises:
        Unauthorized: there is none, or more than one.
    """
    values = _values(request, b"authorization")
    scheme, _, encoded = values[0].partition(" ") if len(values) == 1 else ("", "", "")
    text = encoded.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
    except ValueError:  # not base64, not ASCII, not UTF-8
        raise Unauthorized from None
    user, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon or not user:
        raise Unauthorized
    return user, secret


def bearer(request: Request, schemes: Collection[str] = ("bearer",)) -> str | None:
    """Read the access token of an ``Authorization`` header (RFC 6750, 2.1).

    Args:
        request: the request.
        schemes: how the scheme may be written, in lower case.

    Returns:
        The access token as it was sent; None when there is no such header.

    Raises:
        Unauthorized: there is more than one header, another scheme, or nothing after it.
    """
    values = _values(request, b"authorization")
    if not values:
        return None
    scheme, _, access_token = values[0].partition(" ")
    if len(values) != 1 or scheme.lower() not in schemes or not access_token.strip():
        raise Unauthorized
    return access_token.strip()


def _values(request: Request, name: bytes) -> list[str]:
    """Return what each header of this name says; *name* in lower case."""
    return [value.decode("latin-1") for key, value in request.scope["headers"] if key == name]
