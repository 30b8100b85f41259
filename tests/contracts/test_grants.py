"""What a grant is good for, and that it is good for nothing else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from hsm.errors import GrantRefused, HsmError, SealBroken
from hsm.port import CardRef, GrantedToken, Purpose, SealedGrant, SealedPin, SealedRecord
from tests.contracts.edits import every_change
from tests.contracts.issuer import (
    HOLDER,
    ISSUER_ID,
    PIN,
    Issuer,
    clients,
    page_key,
)

COUNTER = 5
NOW = datetime(2026, 11, 27, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True)
class Card:
    """A card of an issuer that tells text, with the PIN of change 5."""

    issuer: Issuer
    sealed_record: SealedRecord
    sealed_pin: SealedPin

    def grant(self, purpose: Purpose) -> GrantedToken:
        granting = {Purpose.VIEW: self.issuer.grant_view, Purpose.SET: self.issuer.grant_set}
        return granting[purpose](self.sealed_record, counter=COUNTER)

    def at(self, moment: datetime) -> "Card":
        """The same at a vault whose clock stands still."""
        return replace(self, issuer=replace(self.issuer, host=self.issuer.host.at(moment)))

    def at_host_with(self, **members: object) -> "Card":
        """The same at another host over the same HSM token, whose manifest has other *members*."""
        return replace(self, issuer=self.issuer.with_members(**members))


@dataclass(frozen=True)
class Use:
    """A verb that takes a grant, and for what purpose."""

    purpose: Purpose
    verb: Callable[[Card, GrantedToken], object]

    def __call__(self, card: Card, granted: GrantedToken) -> object:
        return self.verb(card, granted)


USES: Mapping[str, Use] = {
    "render_image": Use(
        Purpose.VIEW,
        lambda card, granted: card.issuer.draw(granted, card.sealed_pin, card.sealed_record),
    ),
    "digits_jwe": Use(
        Purpose.VIEW,
        lambda card, granted: card.issuer.digits(
            granted, card.sealed_pin, card.sealed_record, page_key()[1]
        ),
    ),
    "set_pin_from_page": Use(
        Purpose.SET, lambda card, granted: card.issuer.set_on_page(granted, card.sealed_record)
    ),
}
every_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


@pytest.fixture(scope="module")
def card(issuer: Issuer, sealed_record: SealedRecord, sealed_pin: SealedPin) -> Card:
    telling = issuer.with_members(policy={"text_reveal": True})
    return Card(telling, sealed_record, sealed_pin)


def refused(use: Use, card: Card, granted: GrantedToken) -> None:
    """Use a grant, and be refused without a word of why."""
    with pytest.raises(HsmError) as refusal:
        use(card, granted)
    assert type(refusal.value) is GrantRefused
    assert refusal.value.args == ()
    assert refusal.value.__context__ is None or refusal.value.__suppress_context__


@every_use
def test_a_grant_is_good_with_its_control_token_only(card: Card, use: Use) -> None:
    granted, other = card.grant(use.purpose), card.grant(use.purpose)
    own = granted.control_token
    for control_token in (other.control_token, own.upper(), own + "\n", own[:-1], "", "\ud800"):
        refused(use, card, replace(granted, control_token=control_token))
    assert use(card, granted)


@every_use
def test_a_grant_is_good_for_its_purpose_only(card: Card, use: Use) -> None:
    (other,) = {*Purpose} - {use.purpose}
    refused(use, card, card.grant(other))
    assert use(card, card.grant(use.purpose))


@every_use
@pytest.mark.parametrize(("face", "life_seconds"), [("hosted", 600), ("pincontrol", 30)])
def test_a_grant_ends_a_minute_after_the_last_session_could(
    card: Card, use: Use, face: str, life_seconds: int
) -> None:
    begun = card.at(NOW)
    if face == "hosted":
        granted = begun.grant(use.purpose)
    else:
        granted = begun.issuer.grant_plastic(use.purpose, card.sealed_record, counter=COUNTER)
    end = NOW + timedelta(seconds=life_seconds + 1200 + 60)
    assert use(card.at(end - SECOND), granted)
    for moment in (end, end + SECOND, end + timedelta(days=365)):
        refused(use, card.at(moment), granted)


@every_use
def test_no_byte_of_a_grant_can_be_changed(card: Card, use: Use) -> None:
    granted = card.grant(use.purpose)
    edits = [*every_change(granted.grant), b"", granted.grant + b"\0", granted.grant[:40]]
    for edited in edits:
        refused(use, card, replace(granted, grant=SealedGrant(edited)))
    assert use(card, granted)


@every_use
def test_no_other_sealed_value_is_a_grant(card: Card, use: Use) -> None:
    granted = card.grant(use.purpose)
    for sealed in (card.sealed_pin, card.sealed_record):
        refused(use, card, replace(granted, grant=SealedGrant(sealed)))


@every_use
def test_a_grant_of_a_client_that_left_the_manifest_is_over(card: Card, use: Use) -> None:
    granted = card.grant(use.purpose)
    app, server = clients(ISSUER_ID)
    for others in ([], [server], [{**app, "client_id": f"{ISSUER_ID}-app2"}]):
        refused(use, card.at_host_with(clients=others), granted)
    assert use(card.at_host_with(clients=[app]), granted)


@every_use
def test_a_grant_of_an_app_is_none_of_a_server(card: Card, use: Use) -> None:
    granted = card.grant(use.purpose)
    app, server = clients(ISSUER_ID)
    exchanged = [
        {**app, "client_id": server["client_id"]},
        {**server, "client_id": app["client_id"]},
    ]
    refused(use, card.at_host_with(clients=exchanged), granted)


@every_use
@pytest.mark.parametrize("holder", ["holder-2", None])
def test_a_record_of_another_holder_ends_a_grant(card: Card, use: Use, holder: str | None) -> None:
    granted = card.grant(use.purpose)
    refused(use, replace(card, sealed_record=card.issuer.seal_record(holder=holder)), granted)
    assert use(replace(card, sealed_record=card.issuer.seal_record(holder=HOLDER)), granted)


@every_use
def test_a_grant_is_for_its_card(card: Card, use: Use) -> None:
    another = CardRef(ISSUER_ID, "card-2")
    record = card.issuer.seal_record(card=another)
    with pytest.raises(SealBroken):
        use(replace(card, sealed_record=record), card.grant(use.purpose))
    granting = {Purpose.VIEW: card.issuer.grant_view, Purpose.SET: card.issuer.grant_set}
    with pytest.raises(SealBroken):
        use(card, granting[use.purpose](record, another, COUNTER))


@pytest.mark.parametrize("use", ["render_image", "digits_jwe"])
@pytest.mark.parametrize("counter", [0, 4, 6, 2**40])
def test_a_pin_is_shown_at_the_counter_of_its_grant_only(
    card: Card, use: str, counter: int
) -> None:
    granted = card.issuer.grant_view(card.sealed_record, counter=counter)
    with pytest.raises(SealBroken):
        USES[use](card, granted)


def test_a_pin_is_set_for_the_change_after_the_grants_counter(card: Card) -> None:
    granted = card.grant(Purpose.SET)
    sealed_pin = card.issuer.set_on_page(granted, card.sealed_record).sealed_pin
    assert sealed_pin is not None
    assert card.issuer.pin(sealed_pin, card.sealed_record, counter=COUNTER + 1) == PIN
    for counter in (COUNTER, COUNTER + 2):
        with pytest.raises(SealBroken):
            card.issuer.export(sealed_pin, card.sealed_record, counter=counter)


def test_a_grant_of_one_host_is_good_at_another_over_the_same_hsm_token(card: Card) -> None:
    elsewhere = card.at_host_with()
    assert USES["render_image"](elsewhere, card.grant(Purpose.VIEW))
