import copy
import json
import pickle
import traceback
from collections.abc import Callable

import pytest

from crypto.errors import PinBlockError, WeakPinError
from crypto.pinblock import iso0, iso1, iso2, iso3, iso4
from crypto.secret import Secret
from crypto.types import Pan, Pin, PinBlock
from crypto.weak_pins import PinPolicy, check
from tests.crypto.ciphers import cbc_of

PIN = "739182"
PAN = Pan("4761739001010119")
SECRETS = [
    pytest.param(Secret(PIN), id="Secret"),
    pytest.param(Pin(PIN), id="Pin"),
    pytest.param(Pan("739182739182"), id="Pan"),
    pytest.param(PinBlock(b"739182xx"), id="PinBlock"),
]

each_secret = pytest.mark.parametrize("secret", SECRETS)


@each_secret
@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        lambda secret: f"{secret!r:>40}",
        lambda secret: f"{secret:>40}",
        "{:s}".format,
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - the same
        lambda secret: str([secret]) + str({"pin": secret}),
        lambda secret: str(ValueError(secret)),
    ],
)
def test_shown_in_any_way_it_is_redacted(
    secret: Secret[str], show: Callable[[object], str]
) -> None:
    assert PIN not in show(secret)
    assert "***" in show(secret)


@each_secret
@pytest.mark.parametrize("take", [copy.copy, copy.deepcopy, pickle.dumps, json.dumps, vars])
def test_it_is_not_copied_or_serialised(
    secret: Secret[str], take: Callable[[object], object]
) -> None:
    with pytest.raises(TypeError) as refusal:
        take(secret)
    assert PIN not in str(refusal.value)


@each_secret
def test_no_protocol_pickles_it(secret: Secret[str]) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)


def test_two_equal_values_are_not_equal_secrets() -> None:
    pin, again = Pin(PIN), Pin(PIN)

    assert pin == pin  # noqa: PLR0124 - identity is the point
    assert pin != again


def test_reveal_gives_the_value_back() -> None:
    assert Pin(PIN).reveal() == PIN
    assert PinBlock(b"12345678").reveal() == b"12345678"


def refusal_of(decode: Callable[[bytes], Pin], block: bytes) -> str:
    """Return the traceback with which *decode* refuses *block*."""
    with pytest.raises(PinBlockError) as refusal:
        decode(block)
    error = refusal.value
    assert (error.args, error.__cause__, error.__context__) == ((), None, None)
    return "".join(traceback.format_exception(error))


def same(block: bytes) -> bytes:
    return block


@pytest.mark.parametrize(
    ("block", "decode"),
    [
        pytest.param(
            iso0.encode(Pin(PIN), PAN).reveal(),
            lambda block: iso0.decode(PinBlock(block), PAN),
            id="iso0",
        ),
        pytest.param(
            iso1.encode(Pin(PIN), bytes).reveal(),
            lambda block: iso1.decode(PinBlock(block)),
            id="iso1",
        ),
        pytest.param(
            iso2.encode(Pin(PIN)).reveal(), lambda block: iso2.decode(PinBlock(block)), id="iso2"
        ),
        pytest.param(
            iso3.encode(Pin(PIN), PAN, lambda size: b"\xab" * size).reveal(),
            lambda block: iso3.decode(PinBlock(block), PAN),
            id="iso3",
        ),
        pytest.param(
            iso4.encipher(Pin(PIN), PAN, bytes, cbc_of(same)),
            lambda block: iso4.decipher(block, PAN, same),
            id="iso4",
        ),
    ],
)
def test_a_decoder_says_nothing_when_it_fails(block: bytes, decode: Callable[[bytes], Pin]) -> None:
    # The second byte holds 7 and 3: with one bit more the 3 is B, and no digit.
    wrong_control = bytes([block[0] ^ 0xF0]) + block[1:]
    wrong_digit = block[:1] + bytes([block[1] ^ 0x08]) + block[2:]

    reports = {refusal_of(decode, wrong_control), refusal_of(decode, wrong_digit)}

    assert len(reports) == 1
    assert PIN not in reports.pop()


def test_a_weak_pin_is_not_named() -> None:
    weak = "7" * 6
    with pytest.raises(WeakPinError) as refusal:
        check(Pin(weak), PinPolicy(4, 12))

    assert weak not in "".join(traceback.format_exception(refusal.value))
