"""What a face answers with. Headers that every request gets are encoded once."""

from collections.abc import Mapping
from typing import Final, TypeAlias

import msgspec
from starlette.responses import Response

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
JSON: Final = (b"content-type", b"application/json")
_to_json: Final = msgspec.json.Encoder().encode


class Answer(Response):
    """An answer with a body, whose headers are encoded already."""

    def __init__(self, body: bytes, headers: Headers, status: int = 200) -> None:
        self.body = body
        self.status_code = status
        self.background = None
        self.raw_headers = [*headers, (b"content-length", b"%d" % len(body))]


def json_answer(
    members: Mapping[str, object] | msgspec.Struct, headers: Headers, status: int = 200
) -> Answer:
    """Answer with a JSON object."""
    return Answer(_to_json(members), (*headers, JSON), status)


def no_content(headers: Headers) -> Response:
    """Make the answer 204, which may be given again and again."""
    response = Response(status_code=204)
    response.raw_headers = [*headers]
    return response


def encoded(headers: Mapping[str, str]) -> Headers:
    """Encode headers as they are sent."""
    return tuple(
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    )
