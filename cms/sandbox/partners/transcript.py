"""Conversations of those who call the service: every answer is checked, none shows a PIN."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from cms.sandbox.partners.client import Client
from cms.sandbox.partners.d1 import D1Client, D1Error, expect
from cms.sandbox.partners.d1_seccos import Seccos
from cms.sandbox.partners.hosted_app import HostedClient
from cms.sandbox.partners.pincontrol_server import SET, VIEW, PinControlClient, PinControlError

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
    client.new_access_token()
    yield _step(client, "POST oauth2/token", "an access token for the issuer")
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
    control_token = app.ask_to_view()
    yield _step(app, "POST pin/token", "a control token, for an image")
    yield _shown(app, "GET details-image", app.image(control_token))
    yield _shown(app, "GET details-image, again", app.image(control_token), 410, "ended")

    control_token = app.ask_to_set()
    yield _step(app, "POST set-pin/token", "a control token, for a page")
    app.page(control_token)
    yield _step(app, "GET pin-direct/set", "the page, not yet open")
    opened = app.open(control_token)
    yield _step(app, "POST session", "its script has the vault's key")
    app.submit(opened, pin)
    yield _step(app, "POST submit", "a PIN is set")
    if client.get_pin(card_id, pan) != pin:
        raise TranscriptError("GET pin: not the PIN set on the page")
    yield _step(client, "GET pin, by D1", "decrypts to the PIN set on the page")


def pincontrol_transcript(
    server: PinControlClient, app: HostedClient, client: D1Client, card_id: str, pan: str, pin: str
) -> Iterator[Step]:
    """Set the PIN of one card at the pincontrol face, and see it there and at the two others.

    Args:
        server: an issuer's server; the card is its plastic that is not personalised, and the
            issuer allows text.
        app: an app, for the card's cardholder.
        client: D1 for the issuer of the card.
        card_id: the card, active.
        pan: its PAN.
        pin: an acceptable PIN.

    Raises:
        PinControlError, HostedError, D1Error: a call was refused that should not be.
        TranscriptError: a call was answered and the answer is wrong.
    """
    plastic_id = server.config.unpersonalised_plastic_id
    yield _refused(
        server,
        "POST plastic, SET_PIN, personalised",
        403,
        lambda: server.control_id(server.config.personalised_plastic_id, SET),
    )
    to_set = server.control_id(plastic_id, SET)
    yield _step(server, "POST plastic, SET_PIN", "a control id, for 30 seconds")
    server.webview(to_set)
    yield _step(server, "POST pinURL, a form", "the page, in a webview")
    opened = server.open(to_set)
    yield _step(server, "POST session", "its script has the vault's key")
    server.submit(opened, pin)
    yield _step(server, "POST submit", "a PIN is set")

    to_view = server.control_id(plastic_id, VIEW)
    yield _step(server, "POST plastic, VIEW_PIN", "a control id, for 30 seconds")
    seen = server.view(to_view)
    yield _shown(server, "POST view", seen)
    if server.digits(to_view, seen) != pin:
        raise TranscriptError("POST digits: not the PIN just set")
    yield _step(server, "POST digits", "decrypts to the PIN just set")
    yield _refused(server, "POST view, same id", 410, lambda: server.view(to_view))

    if client.get_pin(card_id, pan) != pin:
        raise TranscriptError("GET pin: not the PIN set at pincontrol")
    yield _step(client, "GET pin, by D1", "decrypts to the same PIN")
    control_token = app.ask_to_view()
    yield _step(app, "POST pin/token, by the app", "a control token, for an image")
    yield _shown(app, "GET details-image, by the app", app.image(control_token))


def _shown(
    client: Client,
    call: str,
    response: httpx.Response,
    status: int = 200,
    result: str = "shown",
) -> Step:
    found = (response.status_code, response.headers.get("x-pin-result"))
    if found != (status, result) or not response.content.startswith(PNG):
        raise TranscriptError(f"{call}: not a PNG that is {result}")
    return _step(client, call, f"a PNG, X-Pin-Result: {result}")


def _read(client: D1Client, card_id: str, pan: str, pin: str) -> Step:
    if client.get_pin(card_id, pan) != pin:
        raise TranscriptError("GET pin: not the PIN just set")
    return _step(client, "GET pin", "decrypts to the PIN just set")


def _counted(client: D1Client, card_id: str, expected: int) -> Step:
    if client.counter(card_id) != expected:
        raise TranscriptError(f"GET changeCounter: not {expected}")
    return _step(client, "GET changeCounter", f"{expected}")


def _refused(client: Client, call: str, status: int, act: Callable[[], object]) -> Step:
    try:
        act()
    except (D1Error, PinControlError) as error:
        if error.status != status:
            raise
        why = error.error_code if isinstance(error, D1Error) else error.error_type
        return _step(client, call, f"refused, {why}")
    raise TranscriptError(f"{call}: accepted")


def _step(client: Client, call: str, shows: str) -> Step:
    return Step(call, shows, client.last_status, client.last_ms)
