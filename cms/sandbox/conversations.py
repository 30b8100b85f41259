"""The demo's conversations: each partner calls the service, and what it sees is printed.

No PIN is.
"""

from collections.abc import Iterator

from cms.sandbox import files, sandbox_file
from cms.sandbox.cards import (
    CARDHOLDER_CARD,
    ISSUERS,
    SECCOS_CARD,
    TRANSCRIPT_CARD,
    draw_pin,
    pan_of,
)
from cms.sandbox.operator_commands import run_apart
from cms.sandbox.partners import d1, d1_seccos, hosted_app, pincontrol_server
from cms.sandbox.partners.authorisation_host import ExportError, kinds_by_card
from cms.sandbox.partners.d1 import D1Client
from cms.sandbox.partners.hosted_app import HostedClient
from cms.sandbox.partners.pincontrol_server import PinControlClient
from cms.sandbox.partners.transcript import (
    Step,
    hosted_transcript,
    pincontrol_transcript,
    seccos_transcript,
    transcript,
)


def hold() -> None:
    """Let every partner call, in turn, and print what it sees.

    Raises:
        D1Error, HostedError, PinControlError: the service refused what it should not.
        TranscriptError, ExportError: it gave a wrong answer.
    """
    _print(f"Thales D1, for {TRANSCRIPT_CARD}", _of_d1())
    print()
    _print(f"Thales D1, for {SECCOS_CARD}", _of_d1_with_seccos())
    print()
    _print(f"An app, for {CARDHOLDER_CARD}", _of_an_app())
    print()
    _print(f"An issuer's server, for {CARDHOLDER_CARD}", _of_a_server())
    _print_verification_values()


def _of_d1() -> Iterator[Step]:
    with D1Client(d1.load(sandbox_file.FILE)) as client:
        yield from transcript(client, TRANSCRIPT_CARD, pan_of(TRANSCRIPT_CARD), _two_pins())


def _of_d1_with_seccos() -> Iterator[Step]:
    with D1Client(d1.load(sandbox_file.FILE)) as client:
        yield from seccos_transcript(client, d1_seccos.load(sandbox_file.FILE), _two_pins())


def _of_an_app() -> Iterator[Step]:
    with (
        HostedClient(hosted_app.load(sandbox_file.FILE)) as app,
        D1Client(d1.load(sandbox_file.FILE)) as client,
    ):
        pan = pan_of(CARDHOLDER_CARD)
        yield from hosted_transcript(app, client, CARDHOLDER_CARD, pan, draw_pin())


def _of_a_server() -> Iterator[Step]:
    with (
        PinControlClient(pincontrol_server.load(sandbox_file.FILE)) as server,
        HostedClient(hosted_app.load(sandbox_file.FILE)) as app,
        D1Client(d1.load(sandbox_file.FILE)) as client,
    ):
        pan = pan_of(CARDHOLDER_CARD)
        yield from pincontrol_transcript(server, app, client, CARDHOLDER_CARD, pan, draw_pin())


def _print(who: str, steps: Iterator[Step]) -> None:
    print(f"  {who:<36}{'HTTP':<6}{'ms':>7}   what it shows")
    for step in steps:
        print(f"  {step.call:<36}{step.status:<6}{step.milliseconds:>7.1f}   {step.shows}")


def _print_verification_values() -> None:
    """Open what the issuer's authorisation host gets; name the values and show none."""
    print()
    exported = run_apart("cms", "verification", "export", ISSUERS[0], quiet=True)
    found = kinds_by_card(exported, files.AUTHORISATION_HOST_KEY)
    for card_id, expected in ((TRANSCRIPT_CARD, {"pvv"}), (SECCOS_CARD, {"pvv", "prw"})):
        if not expected <= {*found.get(card_id, ())}:
            raise ExportError(f"verification export: a value of {card_id} is missing")
    for card_id, kinds in found.items():
        print(f"  {card_id}   {', '.join(kinds)}")
    print("  JWEs to the authorisation host, opened with var/host/private.jwk; no value is shown")


def _two_pins() -> tuple[str, str]:
    """Draw two PINs that differ."""
    first = second = draw_pin()
    while second == first:
        second = draw_pin()
    return first, second
