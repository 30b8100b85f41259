"""Conversations about one card, D1's and an app's: every answer is checked, none shows a PIN."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cms.sandbox.d1_client import D1Client, D1Error, expect
from cms.sandbox.d1_seccos import Seccos
from cms.sandbox.hosted_client import Control, HostedClient

PNG: Final = b"\x89PNG\r\n\x1a\n"


class TranscriptError(Exception):
    """The service did not behave as the transcript says."""


@dataclass(frozen=True)
class Step:
    """One call of the transcript: what was sent, what it shows, never a PIN."""

    call: str
    shows: str
    status: int
    milliseconds: float


def transcript(client: D1Client, card_id: str, pan: str, pins: Sequence[str]) -> Iterator[Step]:
    """Set, read, repeat and change the PIN of one card, checking every answer.

    Args:
        client: D1 for the issuer of the card.
        card_id: the card, inactive or active.
        pan: its PAN.
        pins: two PINs, different and acceptable.

    Raises:
        D1Error: a call was refused.
        TranscriptError: a call was answered and the answer is wrong.
    """
    first, second = pins
    client.new_token()
    yield _step(client, "POST token", "a bearer for the issuer")
    client.activate(card_id)
    yield _step(client, "POST activate", "the card is active")
    before = client.counter(card_id)
    yield _step(client, "GET changeCounter", f"{before}")

    jwe = client.set_pin(card_id, first, pan)
    yield _step(client, "PUT pin", "a PIN is set")
    yield _counted(client, card_id, before + 1)
    yield _read(client, card_id, pan, first)
    expect(client.put(card_id, jwe), 204)
    yield _step(client, "PUT pin, same JWE", "accepted again")
    yield _counted(client, card_id, before + 1)

    client.set_pin(card_id, second, pan)
    yield _step(client, "PUT pin", "another PIN is set")
    yield _read(client, card_id, pan, second)
    yield _counted(client, card_id, before + 2)
    weak = "1" * len(first)
    yield _refused(client, "PUT pin, weak", 403, lambda: client.set_pin(card_id, weak, pan))


def seccos_transcript(client: D1Client, seccos: Seccos, pins: Sequence[str]) -> Iterator[Step]:
    """Set, repeat and fail to read the PIN of one active card as SECCOS, checking every answer.

    Args:
        client: D1 for the issuer of the card.
        seccos: D1's side of SECCOS for the card.
        pins: two PINs, different and acceptable.

    Raises:
        D1Error: a call was refused that should not be, or with another status.
        TranscriptError: a call was answered and the answer is wrong.
    """
    card_id, type_ = seccos.card_id, seccos.type_literal
    first, second = pins
    before = client.counter(card_id)
    yield _step(client, "GET changeCounter", f"{before}")
    jwe = client.set_pin_seccos(card_id, seccos.payload(first, before), type_)
    yield _step(client, "PUT pin, SECCOS", "a PIN is set")
    yield _counted(client, card_id, before + 1)

    late = seccos.payload(second, before)
    yield _refused(
        client,
        "PUT pin, SECCOS, stale counter",
        400,
        lambda: client.set_pin_seccos(card_id, late, type_),
    )
    expect(client.put(card_id, jwe, type_), 204)
    yield _step(client, "PUT pin, SECCOS, same JWE", "accepted again")
    yield _counted(client, card_id, before + 1)
    yield _refused(client, "GET pin", 403, lambda: client.get_pin(card_id, seccos.card.pan))


def hosted_transcript(
    app: HostedClient, client: D1Client, card_id: str, pan: str, pin: str
) -> Iterator[Step]:
    """See the PIN of one card as an image, set another on the page, and read that as D1.

    Args:
        app: an app, for the card's cardholder.
        client: D1 for the issuer of the card.
        card_id: the card, active, with a PIN that D1 can read.
        pan: its PAN.
        pin: an acceptable PIN.

    Raises:
        HostedError, D1Error: a call was refused.
        TranscriptError: a call was answered and the answer is wrong.
    """
    control = app.view_token()
    yield _step(app, "POST pin/token", "a token for an image")
    yield _image(app, "GET details-image", control, 200, "shown")
    yield _image(app, "GET details-image, again", control, 410, "ended")

    control = app.set_token()
    yield _step(app, "POST set-pin/token", "a token for a page")
    app.page(control)
    yield _step(app, "GET pin-direct/set", "the page, not yet open")
    opened = app.open(control)
    yield _step(app, "POST session", "its script has the vault's key")
    app.submit(opened, pin)
    yield _step(app, "POST submit", "a PIN is set")
    if client.get_pin(card_id, pan) != pin:
        raise TranscriptError("GET pin: not the PIN set on the page")
    yield _step(client, "GET pin, by D1", "decrypts to the PIN set on the page")


def _image(app: HostedClient, call: str, control: Control, status: int, result: str) -> Step:
    response = app.image(control)
    shown = response.headers.get("x-pin-result")
    if (response.status_code, shown) != (status, result) or not response.content.startswith(PNG):
        raise TranscriptError(f"{call}: not a PNG that is {result}")
    return _step(app, call, f"a PNG, X-Pin-Result: {result}")


def _read(client: D1Client, card_id: str, pan: str, pin: str) -> Step:
    if client.get_pin(card_id, pan) != pin:
        raise TranscriptError("GET pin: not the PIN just set")
    return _step(client, "GET pin", "decrypts to the PIN just set")


def _counted(client: D1Client, card_id: str, expected: int) -> Step:
    if client.counter(card_id) != expected:
        raise TranscriptError(f"GET changeCounter: not {expected}")
    return _step(client, "GET changeCounter", f"{expected}")


def _refused(client: D1Client, call: str, status: int, act: Callable[[], object]) -> Step:
    try:
        act()
    except D1Error as error:
        if error.status != status:
            raise
        return _step(client, call, f"refused, {error.error_code}")
    raise TranscriptError(f"{call}: accepted")


def _step(client: D1Client | HostedClient, call: str, shows: str) -> Step:
    return Step(call, shows, client.last_status, client.last_ms)
