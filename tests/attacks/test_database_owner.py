"""Whoever owns the database: what it cannot do, and what it still can.

Every attack on a defence is made a second time without that defence, and then it succeeds.
"""

import dataclasses
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import LiteralString

import pytest

from cms.faces.cardholder.hosted import pages
from cms.sandbox.partners.pin_blocks import iso0_pin
from crypto.jose import jws_json
from crypto.jose.jws_json import SignedText
from hsm import grants, plaintexts
from hsm.errors import SealBroken
from hsm.grants import Grants
from hsm.manifest import model
from hsm.manifest.model import Manifest
from hsm.manifest.store import Manifests, _file_name
from hsm.manifest.trust import Trust
from hsm.port import CardRef
from hsm.seals import Seals
from tests.attacks.database_owner import (
    FORGED,
    FORMER,
    IN_FORCE,
    DatabaseOwner,
    decrypted,
    pin_of,
)
from tests.attacks.table import Attacker
from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace
from tests.cms.faces.cardholder.hosted.jwes import page_jwe, submission
from tests.cms.faces.d1_face import D1Face
from tests.issuer_records import run_sql
from tests.operators import OperatorKey, signed
from tests.service import D1

ATTACKER = Attacker(
    who="whoever writes the database",
    gets=(
        "rows: it can move a card to another state, suspend an issuer, hold back the next"
        " manifest, delete"
    ),
    does_not=(
        "see or set a PIN by naming itself a card's holder, by another plastic id, or by "
        "a control token that it points at another card; send a cardholder from the set "
        "page to an address that no client registered: the vault believes the sealed "
        "record, and grants only what it has seen proof of. Read a PIN from rows alone, "
        "put one card's PIN on another, bring back the PIN of an earlier counter without "
        "rolling the card's history back with it; have the authorisation host take a former "
        "holder's PIN under the record of the new one; name itself a client or a recipient, "
        "change a policy or a wire profile, or bring back an older manifest: what is "
        "sealed is bound to issuer, card and counter, PINs and verification values to the holder "
        "too, and a manifest is signed by operators and has a version"
    ),
)

pytestmark = pytest.mark.anyio
VICTIM, OWN = "card-1", "card-2"
PIN, OWN_PIN, NEW_PIN = "4071", "9382", "2846"
PVV = "5812"
FORMER_HOLDER = "bob"


# Manifests


async def unsigned(owner: DatabaseOwner) -> str:
    return str(SignedText(await owner.wanted(), []))


async def signed_by_its_own_keys(owner: DatabaseOwner) -> str:
    return signed(await owner.wanted(), operators=[OperatorKey(), OperatorKey()])


async def the_newest_edited(owner: DatabaseOwner) -> str:
    newest = jws_json.parse(owner.text(IN_FORCE))
    return str(dataclasses.replace(newest, payload=await owner.wanted()))


async def an_older_one(owner: DatabaseOwner) -> str:
    return owner.text(FORMER)


async def another_issuers(owner: DatabaseOwner) -> str:
    """Operators signed it, for an issuer where the attacker is a client and the recipient."""
    payload = await owner.wanted()
    return signed(payload.replace(owner.issuer_id.encode(), other_id(owner).encode()))


def other_id(owner: DatabaseOwner) -> str:
    return owner.issuer_id.replace("victim", "others")


def count_no_signatures(patch: pytest.MonkeyPatch, _: DatabaseOwner) -> None:
    patch.setattr(Trust, "require_signed", lambda *_: None)


def forget_the_minimum_version(patch: pytest.MonkeyPatch, _: DatabaseOwner) -> None:
    def keep(self: Manifests, text: str, manifest: Manifest) -> None:
        self.files.write(_file_name(manifest.issuer_id), text, self.label())

    patch.setattr(Manifests, "keep", keep)


def believe_the_row(patch: pytest.MonkeyPatch, owner: DatabaseOwner) -> None:
    """Take a manifest for that of the issuer whose row it stands in."""
    parse, theirs, row = model.parse, other_id(owner).encode(), owner.issuer_id.encode()
    patch.setattr(model, "parse", lambda text: parse(text.replace(theirs, row)))


@dataclass(frozen=True)
class Forgery:
    """A manifest that names the attacker, and what keeps the vault from taking it."""

    make: Callable[[DatabaseOwner], Awaitable[str]]
    switch_off: Callable[[pytest.MonkeyPatch, DatabaseOwner], None]

    async def offer(self, owner: DatabaseOwner) -> None:
        owner.store(FORGED, await self.make(owner))
        await owner.carry()

    async def offer_undefended(self, owner: DatabaseOwner, patch: pytest.MonkeyPatch) -> None:
        self.switch_off(patch, owner)
        await owner.carry()


FORGERIES = (
    Forgery(unsigned, count_no_signatures),
    Forgery(signed_by_its_own_keys, count_no_signatures),
    Forgery(the_newest_edited, count_no_signatures),
    Forgery(an_older_one, forget_the_minimum_version),
    Forgery(another_issuers, believe_the_row),
)
every_forgery = pytest.mark.parametrize("forgery", FORGERIES, ids=lambda one: one.make.__name__)


@every_forgery
async def test_it_cannot_name_itself_a_client(
    owner: DatabaseOwner, forgery: Forgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    await forgery.offer(owner)
    assert await owner.ask_token() == 401
    await forgery.offer_undefended(owner, monkeypatch)
    assert await owner.ask_token() == 200


@every_forgery
async def test_it_cannot_name_itself_the_recipient_of_a_pin(
    owner: DatabaseOwner, forgery: Forgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await owner.bank.put_pin(PIN)).status_code == 204
    await forgery.offer(owner)
    assert await owner.read_pin() is None
    assert await owner.bank.pin() == PIN
    await forgery.offer_undefended(owner, monkeypatch)
    assert await owner.read_pin() == PIN


@every_forgery
async def test_it_cannot_name_itself_the_recipient_of_verification_values(
    owner: DatabaseOwner, forgery: Forgery, monkeypatch: pytest.MonkeyPatch
) -> None:
    victims = pin_of(CardRef(owner.issuer_id, VICTIM), 1)
    sealed = await owner.seal_pvv(PVV, victims)
    await forgery.offer(owner)
    jwe = await owner.export(sealed, victims)
    assert owner.open(jwe) is None
    assert decrypted(jwe, owner.host_key)["pvv"] == {"pvv": PVV}
    await forgery.offer_undefended(owner, monkeypatch)
    opened = owner.open(await owner.export(sealed, victims))
    assert opened is not None
    assert opened["pvv"] == {"pvv": PVV}


# Sealed values


def compare_no_cmacs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Seals, "_verify", lambda *_: None)


def copy_pan_and_pin(owner: DatabaseOwner, issuer_id: str) -> None:
    """Put what is sealed of the victim's card, at that issuer, into the attacker's own card."""
    owner.run(
        "UPDATE cards SET sealed_record = theirs.sealed_record, sealed_pin = theirs.sealed_pin"
        " FROM cards AS theirs WHERE cards.issuer_id = %s AND cards.card_id = %s"
        " AND theirs.issuer_id = %s AND theirs.card_id = %s",
        *(owner.issuer_id, OWN, issuer_id, VICTIM),
    )


async def shown(bank: D1, card_id: str, pan: str) -> str | int:
    """Have D1 read a PIN, which stands in a block for *pan*; of a refusal, return the status."""
    answer = await bank.get(card_id)
    if answer.status_code != 200:
        return answer.status_code
    block = decrypted(answer.json()["encryptedPinBlock"], bank.sample_issuer.d1_key)["pinBlock"]
    return iso0_pin(block, pan)


async def test_it_cannot_see_the_pin_of_another_card_in_its_own(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await owner.bank.put_pin(PIN, VICTIM)).status_code == 204
    assert (await owner.bank.put_pin(OWN_PIN, OWN)).status_code == 204
    copy_pan_and_pin(owner, owner.issuer_id)
    pan = owner.bank.sample_issuer.pans[VICTIM]
    assert await shown(owner.bank, OWN, pan) == 500
    compare_no_cmacs(monkeypatch)
    assert await shown(owner.bank, OWN, pan) == PIN


async def test_it_cannot_see_the_pin_of_another_issuers_card_in_its_own(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await owner.bank.put_pin(OWN_PIN, OWN)).status_code == 204
    async with owner.d1_face.d1_of(other_id(owner)) as other:
        assert (await other.put_pin(PIN, VICTIM)).status_code == 204
    copy_pan_and_pin(owner, other_id(owner))
    pan = other.sample_issuer.pans[VICTIM]
    assert await shown(owner.bank, OWN, pan) == 500
    compare_no_cmacs(monkeypatch)
    assert await shown(owner.bank, OWN, pan) == PIN


SEALED_PIN: LiteralString = "SELECT sealed_pin FROM cards WHERE issuer_id = %s AND card_id = %s"
PUT_BACK: LiteralString = (
    "UPDATE cards SET sealed_pin = %s, counter = %s WHERE issuer_id = %s AND card_id = %s"
)


async def change_pin_twice(owner: DatabaseOwner) -> bytes:
    """Return the sealed PIN of the victim's first change; the second one is in force."""
    assert (await owner.bank.put_pin(PIN, VICTIM)).status_code == 204
    ((older,),) = owner.run(SEALED_PIN, owner.issuer_id, VICTIM)
    assert (await owner.bank.put_pin(NEW_PIN, VICTIM)).status_code == 204
    return bytes(older)


async def test_it_cannot_put_an_older_pin_in_the_place_of_the_newest(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = await change_pin_twice(owner)
    owner.run(PUT_BACK, older, 2, owner.issuer_id, VICTIM)
    pan = owner.bank.sample_issuer.pans[VICTIM]
    assert await shown(owner.bank, VICTIM, pan) == 500
    compare_no_cmacs(monkeypatch)
    assert await shown(owner.bank, VICTIM, pan) == PIN


async def test_it_cannot_have_the_pan_of_its_own_card_count_for_another(
    owner: DatabaseOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever can call as D1 too, and knows no PAN but its own, would set the victim's PIN.
    owner.run(
        "UPDATE cards SET sealed_record = own.sealed_record FROM cards AS own"
        " WHERE cards.issuer_id = %s AND cards.card_id = %s"
        " AND own.issuer_id = cards.issuer_id AND own.card_id = %s",
        *(owner.issuer_id, VICTIM, OWN),
    )
    issuer = owner.bank.sample_issuer
    jwe = issuer.pin_jwe(OWN_PIN, pan=issuer.pans[OWN])
    assert (await owner.bank.put(jwe, VICTIM)).status_code == 500
    compare_no_cmacs(monkeypatch)
    assert (await owner.bank.put(jwe, VICTIM)).status_code == 204


@pytest.mark.parametrize(
    "sealed_of", ["another card", "another counter", "another issuer", "a former holder"]
)
async def test_it_cannot_pass_a_verification_value_off_as_that_of_its_own_card(
    owner: DatabaseOwner, sealed_of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = CardRef(owner.issuer_id, OWN)
    theirs = {
        "another card": pin_of(CardRef(owner.issuer_id, VICTIM), 2),
        "another counter": pin_of(own, 1),
        "another issuer": pin_of(CardRef(other_id(owner), OWN), 2),
        "a former holder": pin_of(own, 2, FORMER_HOLDER),
    }[sealed_of]
    sealed = await owner.seal_pvv(PVV, theirs)
    with pytest.raises(SealBroken):
        await owner.export(sealed, pin_of(own, 2))
    compare_no_cmacs(monkeypatch)
    jwe = await owner.export(sealed, pin_of(own, 2))
    assert decrypted(jwe, owner.host_key)["pvv"] == {"pvv": PVV}


# Evidence and grants

MALLORY = "mallory"


async def test_it_cannot_name_itself_the_holder_of_a_card(
    d1_face: D1Face, hosted_face: HostedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    card_id, _ = await hosted_face.holder(pin=PIN)
    name: LiteralString = "UPDATE cards SET cardholder_id = %s WHERE card_id = %s"
    run_sql(d1_face.url, name, MALLORY, card_id)
    for purpose in ("pin", "set-pin"):
        assert (await hosted_face.ask(purpose, MALLORY)).status_code == 404
    open_record = Seals.open_record
    monkeypatch.setattr(
        *(Seals, "open_record"),
        lambda *given: dataclasses.replace(open_record(*given), cardholder_id=MALLORY),
    )
    compare_no_cmacs(monkeypatch)
    image = await hosted_face.image(await hosted_face.control_token("pin", MALLORY))
    assert (image.status_code, image.headers["content-type"]) == (200, "image/png")
    session = await hosted_face.session(MALLORY)
    assert (await hosted_face.submit(session, OWN_PIN)).status_code == 204
    assert await d1_face.d1.pin(card_id) == OWN_PIN


async def test_it_cannot_point_its_own_control_token_at_another_card(
    d1_face: D1Face, hosted_face: HostedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, victim_holder = await hosted_face.holder(pin=PIN)
    own, holder = await hosted_face.holder(pin=OWN_PIN)
    point: LiteralString = "UPDATE control_tokens SET card_id = %s WHERE card_id = %s"
    session = await hosted_face.session(holder)
    run_sql(d1_face.url, point, victim, own)
    assert (await hosted_face.submit(session, NEW_PIN)).status_code == 500
    assert await d1_face.d1.pin(victim) == PIN
    session = await hosted_face.session(holder)
    run_sql(d1_face.url, point, victim, own)
    open_grant = Grants.open
    monkeypatch.setattr(
        *(Grants, "open"),
        lambda *given: dataclasses.replace(
            open_grant(*given),
            card=CardRef(d1_face.sample_issuer.issuer_id, victim),
            cardholder_id=victim_holder,
        ),
    )
    assert (await hosted_face.submit(session, NEW_PIN)).status_code == 204
    assert await d1_face.d1.pin(victim) == NEW_PIN
    assert await d1_face.d1.pin(own) == OWN_PIN


async def test_it_cannot_use_the_grant_of_another_control_token(
    d1_face: D1Face, hosted_face: HostedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim, victim_holder = await hosted_face.holder(pin=PIN)
    own, holder = await hosted_face.holder(pin=OWN_PIN)
    await hosted_face.control_token("set-pin", victim_holder)
    read: LiteralString = "SELECT grant_id, sealed_grant FROM control_tokens WHERE card_id = %s"
    ((grant_id, sealed_grant),) = run_sql(d1_face.url, read, victim)

    async def set_on_own_page() -> int:
        session = await hosted_face.session(holder) | {"grantId": grant_id}
        put: LiteralString = (
            "UPDATE control_tokens SET card_id = %s, grant_id = %s, sealed_grant = %s"
            " WHERE card_id = %s"
        )
        run_sql(d1_face.url, put, victim, grant_id, sealed_grant, own)
        return (await hosted_face.submit(session, NEW_PIN)).status_code

    assert await set_on_own_page() == 410
    assert await d1_face.d1.pin(victim) == PIN
    monkeypatch.setattr(grants, "compare_digest", lambda *_: True)
    assert await set_on_own_page() == 204
    assert await d1_face.d1.pin(victim) == NEW_PIN


async def test_it_cannot_set_a_pin_that_it_recorded_on_its_own_card(
    d1_face: D1Face, hosted_face: HostedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever also reads what pages send, and then sees the PIN of its own card.
    victim, victim_holder = await hosted_face.holder(pin=PIN)
    own, holder = await hosted_face.holder(pin=OWN_PIN)

    async def set_what_was_recorded() -> int:
        session = await hosted_face.session(holder)
        control_token = await hosted_face.control_token("set-pin", victim_holder)
        name: LiteralString = "UPDATE control_tokens SET grant_id = %s WHERE card_id = %s"
        run_sql(d1_face.url, name, session["grantId"], victim)
        page = (await hosted_face.post("session", token=control_token)).json()
        recorded = page_jwe({**page, "controlToken": control_token}, NEW_PIN)
        sent = await hosted_face.post("submit", **submission(session, recorded))
        return sent.status_code

    assert await set_what_was_recorded() == 410
    assert await d1_face.d1.pin(own) == OWN_PIN
    monkeypatch.setattr(
        *(plaintexts, "is_of_page"), lambda members, grant_id, _: members["grantId"] == grant_id
    )
    assert await set_what_was_recorded() == 204
    assert await d1_face.d1.pin(own) == NEW_PIN


async def test_it_cannot_have_a_page_lead_elsewhere_than_its_app_registered(
    d1_face: D1Face, hosted_face: HostedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    card_id, holder = await hosted_face.holder()

    async def leads() -> str | None:
        wish = {"redirectUrl": f"{apps.ORIGIN}/pins?done"}
        control_token = await hosted_face.control_token("set-pin", holder, wish)
        lead: LiteralString = "UPDATE control_tokens SET redirect_url = %s WHERE card_id = %s"
        run_sql(d1_face.url, lead, "https://evil.test/pin", card_id)
        opened = await hosted_face.post("session", token=control_token)
        led_to: str | None = opened.json()["redirectUrl"]
        return led_to

    assert await leads() is None
    monkeypatch.setattr(pages, "leads_to", lambda *_: True)
    assert await leads() == "https://evil.test/pin"


# What it still gets


async def test_it_can_still_put_back_an_older_pin_of_the_same_card_with_its_history(
    owner: DatabaseOwner,
) -> None:
    older = await change_pin_twice(owner)
    owner.run(PUT_BACK, older, 1, owner.issuer_id, VICTIM)
    pan = owner.bank.sample_issuer.pans[VICTIM]
    assert await shown(owner.bank, VICTIM, pan) == 500, "the history knows a newer change"
    owner.run("ALTER TABLE pin_changes DISABLE TRIGGER append_only")
    owner.run("DELETE FROM pin_changes WHERE issuer_id = %s AND counter = 2", owner.issuer_id)
    owner.run("ALTER TABLE pin_changes ENABLE TRIGGER append_only")
    assert await shown(owner.bank, VICTIM, pan) == PIN


async def test_it_can_still_put_back_a_former_holder_with_the_verification_values_of_then(
    owner: DatabaseOwner,
) -> None:
    former = pin_of(CardRef(owner.issuer_id, VICTIM), 2, FORMER_HOLDER)
    jwe = await owner.export(await owner.seal_pvv(PVV, former), former)
    assert decrypted(jwe, owner.host_key)["pvv"] == {"pvv": PVV}


async def test_it_can_still_hold_back_the_next_manifest(owner: DatabaseOwner) -> None:
    next_version = IN_FORCE + 1
    owner.store(FORGED, "")
    await owner.publish(next_version, await owner.honest(next_version))
    assert await owner.version_in_force() == IN_FORCE
    forged: LiteralString = "DELETE FROM manifests WHERE issuer_id = %s AND version = %s"
    owner.run(forged, owner.issuer_id, FORGED)
    await owner.carry()
    assert await owner.version_in_force() == next_version


async def test_it_can_still_stop_an_issuer_and_destroy_a_pin(owner: DatabaseOwner) -> None:
    assert (await owner.bank.put_pin(PIN)).status_code == 204
    owner.run("UPDATE cards SET sealed_pin = NULL WHERE issuer_id = %s", owner.issuer_id)
    assert (await owner.bank.get()).status_code == 403
    owner.run("UPDATE issuers SET state = 'suspended' WHERE issuer_id = %s", owner.issuer_id)
    assert (await owner.bank.ask_token()).status_code == 401
