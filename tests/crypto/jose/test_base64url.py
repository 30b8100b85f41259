import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto.errors import JoseError
from crypto.jose import base64url

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.binary())
def test_bytes_come_back(data: bytes) -> None:
    assert base64url.decode(base64url.encode(data)) == data


@pytest.mark.parametrize(
    ("text", "data"),
    [("", b""), ("Zg", b"f"), ("Zm8", b"fo"), ("Zm9v", b"foo"), ("-_8", b"\xfb\xff")],
)
def test_known_values(text: str, data: bytes) -> None:
    assert base64url.decode(text) == data
    assert base64url.encode(data) == text


@pytest.mark.parametrize(
    "text",
    [
        "Zg==",
        "Zg=",
        "Zm8=",
        "Zm9v=",
        "====",
        "Z",
        "Zm9vZ",
        "Zh",
        "Zm9",
        "+/8",
        "-/8",
        "Zm 9v",
        " Zm9v",
        "Zm9v\n",
        "Zm9v\x00",
        "Zm.9v",
        "Zm9\u00e9",
        "\uff3am9v",
        "Zm9\ud800",
    ],
)
def test_other_spellings_are_refused(text: str) -> None:
    with pytest.raises(JoseError):
        base64url.decode(text)


@pytest.mark.parametrize(("size", "values"), [(2, 2**8), (3, 2**16)])
def test_each_value_has_one_spelling(size: int, values: int) -> None:
    accepted = set()
    for letters in itertools.product(ALPHABET, repeat=size):
        try:
            accepted.add(base64url.decode("".join(letters)))
        except JoseError:
            continue
    assert len(accepted) == values


@given(st.text(alphabet=ALPHABET + "=+/ \n"))
def test_a_text_that_decodes_is_the_encoding(text: str) -> None:
    try:
        data = base64url.decode(text)
    except JoseError:
        return
    assert base64url.encode(data) == text
