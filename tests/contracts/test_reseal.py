"""What every PinVault promises when the keys of its seals have a second generation.

A card is stored under the first generation; then the HSM token gets the second, and the vault is
opened anew. What an attacker might have resealed is in the tests that begin "nothing".
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from hsm import generations
from hsm.errors import HsmError, SealBroken
from hsm.log.host_log import HostLog
from hsm.log.lines import Action, Event
from hsm.messages import Reseal
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import MAC_ROLES, KeyLabel
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import (
    RESEAL_CARDS_MAX,
    CardPart,
    CardRef,
    ResealedCard,
    SealedPin,
    SealedRecord,
    SealedValue,
    StoredCard,
    ValueKind,
)
from hsm.records import write_record
from hsm.seals import PinOf, Seals
from hsm.verification import Value
from tests.contracts.conftest import BEHIND_SOCKETS, HSM_TOKENS
from tests.contracts.edits import flip
from tests.contracts.issuer import (
    CARD,
    HOLDER,
    ISSUER_ID,
    OTHER_ISSUER_ID,
    PIN,
    Host,
    Issuer,
    open_host,
    open_issuer,
)
from tests.contracts.served import ServedHost, Servers
from tests.contracts.software_token import SoftwareToken
from tests.key_tables import make_newest_active
from tests.operators import now
from tests.pans import PAN, PANS

SECOND = [KeyLabel(role, 2) for pair in MAC_ROLES.items() for role in pair]
COUNTER = 5
OTHER_CARD = CardRef(ISSUER_ID, "card-2")
VALUES = {kind: Value.of(of=str(kind)) for kind in ValueKind}
Edit = Callable[[StoredCard, StoredCard], StoredCard]


@dataclass(frozen=True)
class Rotated:
    """An issuer at a vault whose keys have a second generation, and what was stored before."""

    issuer: Issuer
    before: Issuer
    """The same while the first generation was the only one."""
    stored: StoredCard
    other: StoredCard
    """Another card, with another PAN and PIN."""

    def reseal(self, *cards: StoredCard) -> list[ResealedCard]:
        return [*self.issuer.vault.reseal(cards).cards]

    @property
    def seals(self) -> Seals:
        host = self.issuer.host
        table = generations.of_host(host.directory, host.hsm_token)
        return Seals(host.hsm_token, Keyring(host.hsm_token, table))


def store(
    issuer: Issuer, card: CardRef = CARD, pan: str = PAN, pin: str = PIN, holder: str = HOLDER
) -> StoredCard:
    record = issuer.seal_record(pan, card, holder=holder, plastic_id=None)
    seals = Seals(issuer.host.hsm_token, Keyring(issuer.host.hsm_token))
    owner = PinOf(seals.open_record(record, card), card, COUNTER)
    values = {kind: seals.seal_value(VALUES[kind], kind, owner) for kind in VALUES}
    sealed_pin = issuer.set_pin(pin, record, pan, card, COUNTER)
    return StoredCard(card, COUNTER, record, sealed_pin, values)


@pytest.fixture(
    params=[*HSM_TOKENS, *(f"{name}{BEHIND_SOCKETS}" for name in HSM_TOKENS)], scope="module"
)
def rotated(
    request: pytest.FixtureRequest, hosts: Path, start_servers: Callable[[str], Servers]
) -> Iterator[Rotated]:
    name = request.param.removesuffix(BEHIND_SOCKETS)
    hsm_token: HsmToken = request.getfixturevalue(HSM_TOKENS[name])
    before = open_issuer(open_host(hsm_token, hosts))
    stored = store(before)
    other = store(before, OTHER_CARD, PANS[1], "8264")
    for label in SECOND:
        hsm_token.generate(label)
    make_newest_active(before.host.vault, before.host.directory, hsm_token)
    try:
        host: Host = before.host.reopened()
        if name != request.param:
            servers = start_servers(name)
            vault = servers.start(host.directory, now)
            host = ServedHost(hsm_token, host.directory, vault, servers)
        yield Rotated(replace(before, host=host), before, stored, other)
    finally:
        for label in SECOND:
            take_away(hsm_token, label)


def take_away(hsm_token: HsmToken, label: KeyLabel) -> None:
    if isinstance(hsm_token, Pkcs11Token):
        hsm_token.destroy(label)
    else:
        assert isinstance(hsm_token, SoftwareToken)
        del hsm_token.secrets[label], hsm_token.kinds[label]


def label_of(sealed: bytes) -> str:
    return sealed[2 : 2 + sealed[1]].decode()


def merged(stored: StoredCard, resealed: ResealedCard) -> StoredCard:
    """What is stored afterwards."""
    return replace(
        stored,
        sealed_record=resealed.sealed_record or stored.sealed_record,
        sealed_pin=resealed.sealed_pin or stored.sealed_pin,
        values={**stored.values, **resealed.values},
    )


def pin_of(issuer: Issuer, stored: StoredCard, pan: str = PAN) -> str:
    assert stored.sealed_pin is not None
    return issuer.pin(stored.sealed_pin, stored.sealed_record, pan, stored.card, stored.counter)


def test_all_that_is_stored_of_a_card_goes_under_the_active_keys(rotated: Rotated) -> None:
    (resealed,) = rotated.reseal(rotated.stored)
    assert resealed.refused == {}
    after = merged(rotated.stored, resealed)
    assert after.sealed_pin is not None
    assert label_of(after.sealed_record) == "record.g2"
    assert label_of(after.sealed_pin) == "pin.g2"
    assert {label_of(value) for value in after.values.values()} == {"values.g2"}
    assert pin_of(rotated.issuer, after) == PIN
    owner = PinOf(rotated.seals.open_record(after.sealed_record, CARD), CARD, COUNTER)
    for kind, value in after.values.items():
        opened = rotated.seals.open_value(value, kind, owner)
        assert opened.reveal() == VALUES[kind].reveal()
    old, new = (
        write_record(rotated.seals.open_record(each.sealed_record, CARD))
        for each in (rotated.stored, after)
    )
    assert old == new


def test_a_vault_still_opens_what_was_not_resealed_and_any_mixture(rotated: Rotated) -> None:
    (resealed,) = rotated.reseal(rotated.stored)
    assert resealed.sealed_record is not None
    assert pin_of(rotated.issuer, rotated.stored) == PIN
    mixed = replace(rotated.stored, sealed_record=resealed.sealed_record)
    assert pin_of(rotated.issuer, mixed) == PIN
    (rest,) = rotated.reseal(mixed)
    assert rest.sealed_record is None
    assert rest.values.keys() == VALUES.keys()
    assert pin_of(rotated.issuer, merged(mixed, rest)) == PIN


def test_what_is_under_the_active_keys_stays_as_it_is(rotated: Rotated) -> None:
    (resealed,) = rotated.reseal(rotated.stored)
    (again,) = rotated.reseal(merged(rotated.stored, resealed))
    assert again == ResealedCard(None, None, {}, {})


def test_a_card_may_have_a_record_only(rotated: Rotated) -> None:
    (resealed,) = rotated.reseal(replace(rotated.stored, sealed_pin=None, values={}))
    assert resealed.sealed_record is not None
    assert (resealed.sealed_pin, resealed.values, resealed.refused) == (None, {}, {})


def test_how_resealed_values_begin_is_told_without_cards_too(rotated: Rotated) -> None:
    beginnings = rotated.issuer.vault.reseal([]).beginnings
    assert beginnings == rotated.issuer.vault.reseal([rotated.stored]).beginnings
    (resealed,) = rotated.reseal(rotated.stored)
    assert resealed.sealed_record is not None
    assert resealed.sealed_pin is not None
    assert resealed.sealed_record.startswith(beginnings.record)
    assert resealed.sealed_pin.startswith(beginnings.pin)
    assert all(value.startswith(beginnings.values) for value in resealed.values.values())


def test_more_cards_than_a_call_may_have_are_refused(rotated: Rotated) -> None:
    empty = replace(rotated.stored, sealed_pin=None, values={})
    assert len(rotated.reseal(*[empty] * RESEAL_CARDS_MAX)) == RESEAL_CARDS_MAX
    with pytest.raises(HsmError):
        rotated.reseal(*[empty] * (RESEAL_CARDS_MAX + 1))


def test_a_bad_card_ends_no_batch_and_is_told_part_by_part(rotated: Rotated) -> None:
    stored, other = rotated.stored, rotated.other
    assert stored.sealed_pin is not None
    bad_pin = replace(stored, sealed_pin=SealedPin(flip(stored.sealed_pin, 20, 1)))
    bad_record = replace(stored, sealed_record=SealedRecord(flip(stored.sealed_record, 40, 1)))
    no_label = replace(stored, values={ValueKind.PRW: SealedValue(b"\1\3abc")})
    first, second, third, last = rotated.reseal(bad_pin, bad_record, no_label, other)
    assert first.refused == {CardPart.PIN: "SealBroken"}
    assert first.sealed_record is not None
    assert first.values.keys() == VALUES.keys()
    # Who holds the card, and so whose PIN it is, is in the record.
    assert second.refused == dict.fromkeys(CardPart, "SealBroken")
    assert (second.sealed_pin, second.values) == (None, {})
    assert third.refused == {CardPart.PRW: "SealBroken"}
    assert last.refused == {}
    assert pin_of(rotated.issuer, merged(other, last), PANS[1]) == "8264"


def relabelled(sealed: bytes, generation: int) -> bytes:
    return sealed.replace(b".g1", b".g%d" % generation, 1)


@pytest.mark.parametrize("generation", [2, 7])
def test_a_part_that_another_key_did_not_seal_is_none_of_that_key(
    rotated: Rotated, generation: int
) -> None:
    """Whoever writes the database can write another label; it is in what the CMAC covers."""
    stored = rotated.stored
    lying = replace(
        stored,
        sealed_record=SealedRecord(relabelled(stored.sealed_record, generation)),
        values={},
    )
    (resealed,) = rotated.reseal(lying)
    assert (resealed.sealed_record, resealed.sealed_pin) == (None, None)
    expected = "SealBroken" if generation == 2 else "KeyNotInUse"
    assert resealed.refused[CardPart.PIN] == expected
    assert CardPart.RECORD not in resealed.refused or generation == 7


def others_pin(stored: StoredCard, other: StoredCard) -> StoredCard:
    return replace(stored, sealed_pin=other.sealed_pin)


def others_record(stored: StoredCard, other: StoredCard) -> StoredCard:
    return replace(stored, sealed_record=other.sealed_record)


def others_values(stored: StoredCard, other: StoredCard) -> StoredCard:
    return replace(stored, values=other.values)


def under_the_others_name(stored: StoredCard, other: StoredCard) -> StoredCard:
    return replace(stored, card=other.card)


def under_another_issuer(stored: StoredCard, _: StoredCard) -> StoredCard:
    return replace(stored, card=CardRef(OTHER_ISSUER_ID, stored.card.card_id))


def of_an_older_counter(stored: StoredCard, _: StoredCard) -> StoredCard:
    return replace(stored, counter=COUNTER + 1)


def of_a_newer_counter(stored: StoredCard, _: StoredCard) -> StoredCard:
    return replace(stored, counter=COUNTER - 1)


def kinds_exchanged(stored: StoredCard, _: StoredCard) -> StoredCard:
    values = stored.values
    exchanged = {ValueKind.PVV: values[ValueKind.PRW], ValueKind.PRW: values[ValueKind.PVV]}
    return replace(stored, values=exchanged)


#: What somebody with the database and the admin socket may try, and what of it must not come back.
EDITS: Mapping[Edit, frozenset[CardPart]] = {
    others_pin: frozenset({CardPart.PIN}),
    others_record: frozenset(CardPart),
    others_values: frozenset(map(CardPart, ValueKind)),
    under_the_others_name: frozenset(CardPart),
    under_another_issuer: frozenset(CardPart),
    of_an_older_counter: frozenset(CardPart) - {CardPart.RECORD},
    of_a_newer_counter: frozenset(CardPart) - {CardPart.RECORD},
    kinds_exchanged: frozenset({CardPart.PVV, CardPart.PRW}),
}


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_nothing_of_another_card_counter_or_kind_is_resealed(rotated: Rotated, edit: Edit) -> None:
    (resealed,) = rotated.reseal(edit(rotated.stored, rotated.other))
    assert resealed.refused == dict.fromkeys(EDITS[edit], "SealBroken")
    # The control: as it is stored, all of it is.
    (right,) = rotated.reseal(rotated.stored)
    assert right.refused == {}


def test_without_the_cmac_they_would_be(rotated: Rotated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control of the test above."""
    here = replace(rotated, issuer=replace(rotated.issuer, host=rotated.before.host.reopened()))
    monkeypatch.setattr(Seals, "_verify", lambda *_: None)
    for edit in (of_an_older_counter, under_the_others_name, others_values):
        moved = edit(rotated.stored, rotated.other)
        (resealed,) = here.reseal(moved)
        assert resealed.refused == {}
        assert pin_of(here.issuer, merged(moved, resealed)) == PIN


def test_nothing_of_another_holder_is_resealed(rotated: Rotated) -> None:
    bobs = rotated.before.seal_record(holder="bob", plastic_id=None)
    (resealed,) = rotated.reseal(replace(rotated.stored, sealed_record=bobs))
    assert resealed.refused == dict.fromkeys({*CardPart} - {CardPart.RECORD}, "SealBroken")
    assert resealed.sealed_record is not None
    assert rotated.seals.open_record(resealed.sealed_record, CARD).holder == "bob"


def test_nothing_of_another_pan_is_resealed(rotated: Rotated) -> None:
    renewed = rotated.before.seal_record(PANS[2], plastic_id=None)
    (resealed,) = rotated.reseal(replace(rotated.stored, sealed_record=renewed))
    assert resealed.refused == {CardPart.PIN: "SealBroken"}


def test_nothing_becomes_newer_by_it(rotated: Rotated) -> None:
    """A PIN of an older counter, from a backup, is that of the older counter afterwards, too."""
    (resealed,) = rotated.reseal(rotated.stored)
    assert resealed.sealed_pin is not None
    after = merged(rotated.stored, resealed)
    for counter in (COUNTER - 1, COUNTER + 1, 0):
        with pytest.raises(SealBroken):
            pin_of(rotated.issuer, replace(after, counter=counter))
    bobs = rotated.issuer.seal_record(holder="bob", plastic_id=None)
    with pytest.raises(SealBroken):
        pin_of(rotated.issuer, replace(after, sealed_record=bobs))
    with pytest.raises(SealBroken):
        pin_of(rotated.issuer, replace(after, card=OTHER_CARD))


def lines(host: Host) -> Counter[Event]:
    """What the log tells of resealing, in whichever chains."""
    host_log = HostLog(host.directory / "log", host.hsm_token.mac)
    read = [line.event for line in host_log.lines()]
    assert host_log.faults == []
    return Counter(event for event in read if event.what is Action.RESEAL)


def test_a_batch_is_one_line_of_the_log_and_names_no_card(rotated: Rotated) -> None:
    before = lines(rotated.issuer.host)
    rotated.reseal(rotated.stored, rotated.other)
    rotated.reseal(replace(rotated.stored, sealed_pin=None, values={}))
    all_parts = ("pin.g1 record.g1 values.g1", "pin.g2 record.g2 values.g2")
    assert lines(rotated.issuer.host) - before == Counter(
        Event(Action.RESEAL, ISSUER_ID, count=count, keys_from=old, keys_to=new)
        for count, old, new in ((2, *all_parts), (1, "record.g1", "record.g2"))
    )


def test_a_batch_of_which_nothing_is_resealed_is_no_line(rotated: Rotated) -> None:
    before = lines(rotated.issuer.host)
    (resealed,) = rotated.reseal(rotated.stored)
    after = lines(rotated.issuer.host)
    rotated.reseal()
    rotated.reseal(merged(rotated.stored, resealed))
    rotated.reseal(under_another_issuer(rotated.stored, rotated.other))
    assert lines(rotated.issuer.host) == after
    assert (after - before).total() == 1


def test_neither_a_call_nor_its_answer_shows_or_holds_anything_clear(rotated: Rotated) -> None:
    (resealed,) = rotated.reseal(rotated.stored)
    message = repr(Reseal([rotated.stored]))
    assert message == "Reseal(…)"
    told = b"".join(
        (resealed.sealed_record or b"", resealed.sealed_pin or b"", *resealed.values.values())
    )
    for clear in (PIN, PAN, HOLDER, *ValueKind):
        assert clear.encode() not in told
    assert bytes.fromhex(PAN) not in told
