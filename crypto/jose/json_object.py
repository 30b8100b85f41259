"""JSON objects that every reader reads in the same way (RFC 8259; RFC 7515, section 4)."""

import json
from typing import Final

from crypto.errors import JoseError


def parse(data: bytes) -> dict[str, object]:
    """Read one JSON object from UTF-8 bytes; the caller limits their number.

    >>> parse(b'{"kid": "wire-1"}')
    {'kid': 'wire-1'}
    >>> parse(b'{"kid": "wire-1", "kid": "wire-2"}')
    Traceback (most recent call last):
    crypto.errors.JoseError

    Raises:
        JoseError: *data* is not UTF-8, not JSON or not an object; or it has, at any depth, a
            member twice, a number that is not finite or too long, a lone surrogate, or nesting
            too deep to read.
    """
    try:
        value = _decode(data.decode("utf-8"))
        # Python reads NaN, 1e999 and lone surrogates; none of them can be written.
        _encode(value).encode("utf-8")
    except (ValueError, RecursionError):
        raise JoseError from None
    if not isinstance(value, dict):
        raise JoseError
    return value


def serialize(members: dict[str, object]) -> bytes:
    """Write *members*, in their order, as UTF-8 JSON without spaces.

    >>> serialize({"alg": "ES256", "kid": "wire-1"})
    b'{"alg":"ES256","kid":"wire-1"}'

    Raises:
        ValueError: a number is not finite.
    """
    return json.dumps(members, separators=(",", ":"), allow_nan=False).encode("utf-8")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise JoseError
    return members


_decode: Final = json.JSONDecoder(object_pairs_hook=_unique).decode
_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
