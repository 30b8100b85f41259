import pytest

from crypto.padding import pad


@pytest.mark.parametrize(
    ("data", "padded"),
    [
        ("", "8000000000000000"),
        ("11", "1180000000000000"),
        ("11111111111111", "1111111111111180"),
        ("1111111111111111", "11111111111111118000000000000000"),
        ("80", "8080000000000000"),
    ],
)
def test_there_is_always_a_marker(data: str, padded: str) -> None:
    assert pad(bytes.fromhex(data)).hex() == padded


def test_no_two_messages_are_padded_alike() -> None:
    messages = [b"", b"\x80", b"\x80\0", b"\0", b"\x80" + bytes(7), bytes(8)]

    assert len({pad(message) for message in messages}) == len(messages)
