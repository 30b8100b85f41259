import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import JoseError
from crypto.jose import json_object


@pytest.mark.parametrize(
    ("data", "members"),
    [
        (b"{}", {}),
        (b' {"a": 1} ', {"a": 1}),
        (b'{"a":[1,2.5,true,null,{"b":"c"}]}', {"a": [1, 2.5, True, None, {"b": "c"}]}),
        (b'{"a":{"k":1},"b":{"k":1}}', {"a": {"k": 1}, "b": {"k": 1}}),
        ('{"ü":"\\u00fc"}'.encode(), {"ü": "ü"}),
        (b'{"a":"\\ud83d\\ude00"}', {"a": "\N{GRINNING FACE}"}),
    ],
)
def test_an_object_is_read(data: bytes, members: dict[str, object]) -> None:
    assert json_object.parse(data) == members


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'"a"', id="string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"1", id="number"),
        pytest.param(b"{}{}", id="two objects"),
        pytest.param(b"{} x", id="trailing text"),
        pytest.param(b"{}\x00", id="trailing NUL"),
        pytest.param(b'{"a":1,}', id="trailing comma"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":01}', id="leading zero"),
        pytest.param(b'{"a":"\n"}', id="raw newline"),
        pytest.param(b'{"a":1,"a":1}', id="duplicate"),
        pytest.param(b'{"a":1,"\\u0061":2}', id="duplicate behind an escape"),
        pytest.param(b'{"a":[{"b":1,"b":2}]}', id="duplicate deep down"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":Infinity}', id="Infinity"),
        pytest.param(b'{"a":-Infinity}', id="minus Infinity"),
        pytest.param(b'{"a":1e999}', id="number out of range"),
        pytest.param(b'{"a":' + b"9" * 5000 + b"}", id="5000 digits"),
        pytest.param(b'{"a":"\xff"}', id="not UTF-8"),
        pytest.param(b'{"a":"\xc0\xaf"}', id="overlong UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b'{"a":"\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"\\udc00":1}', id="lone surrogate in a name"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param("{}".encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"a":' * 100_000, id="nesting without end"),
        pytest.param(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="nesting"),
        pytest.param(b'{"a":' * 50_000 + b"1" + b"}" * 50_000, id="nested objects"),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(JoseError):
        json_object.parse(data)


@given(st.binary())
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    try:
        json_object.parse(data)
    except JoseError:
        return


def test_written_objects_are_compact_ascii_in_order() -> None:
    assert json_object.serialize({"b": 1, "a": "ü"}) == b'{"b":1,"a":"\\u00fc"}'


def test_a_number_that_is_not_finite_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_object.serialize({"a": float("nan")})
