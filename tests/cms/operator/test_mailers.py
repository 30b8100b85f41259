"""``cards generate-pins`` and ``mailers``, and feeds that ask for a PIN: what the bureau reads."""

import fcntl
import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cms.operator.log_comparison import EVENTS, Comparison
from cms.persistence import admin
from crypto.secret import Secret
from hsm.errors import HsmError, KeyMissing, KeyNotInUse, KeyUsedUp, SealBroken, VaultUnavailable
from hsm.log.host_log import HostLog
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.port import BatchPart, CardRef, MailerBatch, SealedChange, SealedRecord, StoredPin
from hsm.vault import Vault
from tests.bureau import Bureau
from tests.cms.operator.operator_at_work import Answer, Operator, use_vault
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import (
    PANS,
    SampleIssuer,
    active,
    change_manifest,
    load_cards,
    open_issuer,
    run_sql,
)
from tests.operators import minimum_versions, prepare_host, signed

ISSUER = "testbank01"
PIN_KEY, MAC_KEY = bytes(range(32)), bytes(range(40, 72))
MADE = [f"card-{number}" for number in range(1, 5)]


class Counting(Vault):
    """A vault that counts what it hands out, and goes away where a test says."""

    parts: int = 0
    away_at: int | None = None

    def export_mailers(
        self, issuer_id: str, pins: Sequence[StoredPin], part: BatchPart
    ) -> MailerBatch:
        if part.number == self.away_at:
            raise VaultUnavailable
        self.parts += 1
        return super().export_mailers(issuer_id, pins, part)


@dataclass
class Desk:
    """An operator of an issuer that has a bureau."""

    operator: Operator
    vault: Counting
    issuer: SampleIssuer
    url: str
    out: Path
    bureau: Bureau
    hsm_token: SoftwareToken

    def mailers(self, *words: str, out: Path | None = None) -> Answer:
        return self.operator("cards", "mailers", ISSUER, out or self.out, *words)

    def generate(self, *cards: str) -> Answer:
        return self.operator("cards", "generate-pins", ISSUER, *cards)

    def read(self, out: Path | None = None) -> dict[str, str]:
        return self.bureau.pins((out or self.out).read_text())

    def audited(self, event: str = "pin.mailer") -> list[tuple[Any, ...]]:
        return run_sql(
            self.url,
            "SELECT card_id, counter, reason FROM audit_events WHERE event = %s ORDER BY event_id",
            event,
        )

    def card(self, card_id: str) -> tuple[Any, ...]:
        (row,) = run_sql(
            self.url,
            "SELECT counter, pin_type, bureau_counter FROM cards WHERE card_id = %s",
            card_id,
        )
        return row

    def bring(self, card_id: str, pan: str, **members: object) -> None:
        load_cards(self.url, self.vault, self.issuer, active(card_id, pan, **members))
        self.issuer.pans[card_id] = pan


@pytest.fixture
def desk(
    operator: Operator, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Desk:
    """One with four cards and no PIN; parts of files have two PINs."""
    hsm_token = SoftwareToken()
    for role, key in ((KeyRole.BUREAU_PIN_AES, PIN_KEY), (KeyRole.BUREAU_MAC, MAC_KEY)):
        hsm_token.import_key(KeyLabel(role, 1, ISSUER), KeyKind.AES_256, Secret(key))
    vault = Counting(hsm_token, tmp_path, prepare_host(tmp_path), lambda: datetime.now(UTC))
    vault.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    issuer = open_issuer(database_url, vault, ISSUER, bureau={})
    use_vault(monkeypatch, vault)
    monkeypatch.setattr("cms.operator.mailers.MAILERS_MAX", 2)
    out = tmp_path / "mailers.txt"
    return Desk(
        operator, vault, issuer, database_url, out, Bureau(PIN_KEY, MAC_KEY, issuer.pans), hsm_token
    )


def test_what_was_made_and_written_is_told_as_json(desk: Desk) -> None:
    made = desk.generate("card-1", "card-2", "nobody", "--json")
    assert (made.code, json.loads(made.out)) == (2, {"made": 2, "refused": 1})
    assert json.loads(desk.mailers("--json").out) == {"pins": 2, "file": str(desk.out)}
    none = desk.mailers("--json", out=desk.out.with_name("none"))
    assert json.loads(none.out) == {"pins": 0, "file": None}


# PINs that are made


def test_a_pin_is_made_of_cards_that_have_none(desk: Desk) -> None:
    assert desk.generate("card-1", "card-2") == Answer(0, "2 PINs made\n", "")
    assert desk.card("card-1") == (0, "ISO0", None)
    assert desk.audited("pin.made") == [("card-1", 0, None), ("card-2", 0, None)]
    assert run_sql(desk.url, "SELECT count(*) FROM pin_changes") == [(0,)]


def test_of_others_none_is_made_and_they_are_named(desk: Desk) -> None:
    desk.operator.must("cards", "state", ISSUER, "card-3", "closed")
    desk.generate("card-1")
    before = run_sql(desk.url, "SELECT sealed_pin FROM cards WHERE card_id = 'card-1'")
    answer = desk.generate("card-1", "card-2", "card-3", "nobody", "no card")
    assert answer.out == "1 PINs made\n"
    assert answer.code == 2
    assert answer.err == (
        "card card-1: the card has a PIN, or is closed\n"
        "card card-3: the card has a PIN, or is closed\n"
        "card nobody: no such card\n"
        "no such card\n"
    )
    assert run_sql(desk.url, "SELECT sealed_pin FROM cards WHERE card_id = 'card-1'") == before


def test_a_pin_that_somebody_sets_meanwhile_stays(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = desk.vault.generate_pin

    def late(card: CardRef, sealed_record: SealedRecord, counter: int) -> SealedChange:
        change = make(card, sealed_record, counter)
        run_sql(desk.url, "UPDATE cards SET pin_type = 'ISO0', counter = 1, sealed_pin = 'theirs'")
        return change

    monkeypatch.setattr(desk.vault, "generate_pin", late)
    assert desk.generate("card-1").err == "card card-1: the card changed meanwhile; try again\n"
    assert run_sql(desk.url, "SELECT DISTINCT sealed_pin FROM cards") == [(b"theirs",)]
    assert desk.audited("pin.made") == []


@pytest.mark.parametrize("column", ["sealed_record = 'renewed'", "state = 'closed'"])
def test_a_pin_is_not_stored_of_a_card_that_is_renewed_or_closed_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    make = desk.vault.generate_pin

    def late(card: CardRef, sealed_record: SealedRecord, counter: int) -> SealedChange:
        change = make(card, sealed_record, counter)
        run_sql(desk.url, f"UPDATE cards SET {column}")
        return change

    monkeypatch.setattr(desk.vault, "generate_pin", late)
    assert desk.generate("card-1").err == "card card-1: the card changed meanwhile; try again\n"
    assert desk.card("card-1") == (0, None, None)


@pytest.mark.parametrize("kind", [SealBroken, KeyMissing, KeyNotInUse, KeyUsedUp])
def test_a_card_that_the_vault_cannot_serve_is_named_and_stops_no_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, kind: type[HsmError]
) -> None:
    make = desk.vault.generate_pin

    def broken(card: CardRef, sealed_record: SealedRecord, counter: int) -> SealedChange:
        if card.card_id == "card-1":
            raise kind
        return make(card, sealed_record, counter)

    monkeypatch.setattr(desk.vault, "generate_pin", broken)
    answer = desk.generate("card-1", "card-2")
    assert answer == Answer(2, "1 PINs made\n", f"card card-1: {kind.__doc__}\n")


def test_a_card_whose_history_does_not_fit_is_named_and_keeps_no_pin(desk: Desk) -> None:
    desk.bring("new-1", PANS[0], pinStatus="D", cardholder="one")
    desk.bring("new-1", PANS[0], cardholder="other")
    run_sql(
        desk.url,
        "INSERT INTO pin_changes (issuer_id, card_id, counter, actor, request_key)"
        " VALUES (%s, 'new-1', 1, 'somebody', 'key')",
        ISSUER,
    )
    answer = desk.generate("new-1", "card-2")
    assert answer == Answer(2, "1 PINs made\n", "card new-1: duplicate pin change\n")
    assert desk.card("new-1") == (0, None, None)


def test_of_a_suspended_issuer_no_pin_is_made_and_none_goes_to_the_bureau(desk: Desk) -> None:
    desk.generate("card-1")
    desk.operator.must("issuers", "suspend", ISSUER)
    suspended = "the issuer is suspended\n"
    assert desk.generate("card-2") == Answer(2, "0 PINs made\n", f"card card-2: {suspended}")
    assert desk.mailers() == Answer(2, "", suspended)
    assert desk.audited() == []


def test_a_feed_asks_for_a_pin_by_the_pin_status_d(desk: Desk) -> None:
    desk.bring("new-1", PANS[0], pinStatus="D")
    desk.bring("new-2", PANS[1], pinStatus="W")
    desk.bring("new-3", PANS[2])
    assert [desk.card(f"new-{number}")[1] for number in (1, 2, 3)] == ["ISO0", None, None]
    assert desk.audited("pin.made") == [("new-1", 0, None)]
    # A card that waits need not wait longer.
    desk.bring("new-2", PANS[1], pinStatus="D")
    assert desk.card("new-2") == (0, "ISO0", None)


def test_a_card_that_is_renewed_keeps_its_pin_and_a_new_holder_gets_a_new_one(desk: Desk) -> None:
    desk.bring("new-1", PANS[0], pinStatus="D", cardholder="one")
    before = run_sql(desk.url, "SELECT sealed_pin FROM cards WHERE card_id = 'new-1'")
    desk.bring("new-1", PANS[0], pinStatus="D", cardholder="one", expiry="1232")
    assert run_sql(desk.url, "SELECT sealed_pin FROM cards WHERE card_id = 'new-1'") == before
    desk.bring("new-1", PANS[0], pinStatus="D", cardholder="other")
    # A change of its own: nothing that was sealed for the first PIN fits it.
    assert desk.card("new-1") == (1, "ISO0", None)
    assert run_sql(desk.url, "SELECT card_id, counter FROM pin_changes") == [("new-1", 1)]
    assert desk.audited("pin.made") == [("new-1", 0, None), ("new-1", 1, None)]


def test_the_chip_of_a_card_in_the_field_is_to_have_a_pin_that_is_made_later(desk: Desk) -> None:
    change_manifest(desk.vault, ISSUER, scripts={"scheme": "ccd"})
    for card_id, personalised in (("new-1", True), ("new-2", False)):
        desk.bring(card_id, PANS[0], pinStatus="D", cardholder="one", personalised=personalised)
        # A PIN that comes with its card is on the chip already, or comes to it at the bureau.
        assert run_sql(desk.url, "SELECT card_id FROM card_scripts") == []
        desk.bring(card_id, PANS[0], cardholder="other", personalised=personalised)
        assert desk.generate(card_id).out == "1 PINs made\n"
        found = run_sql(desk.url, "DELETE FROM card_scripts RETURNING card_id, counter, state")
        assert found == ([(card_id, 1, "pending")] if personalised else [])


def test_a_feed_cannot_both_bring_a_pin_and_have_one_made(desk: Desk, tmp_path: Path) -> None:
    jwe = desk.issuer.pin_jwe("4071", pan=PANS[0])
    for members, reason in (
        ({"pinStatus": "D", "encryptedPinBlock": jwe}, "a card that brings its PIN has none made"),
        ({"pinStatus": "S"}, "refused member: pinStatus (D: a PIN is made; W: the card waits for"),
    ):
        feed = tmp_path / "feed"
        feed.write_text(desk.issuer.feed(active("new-1", PANS[0], **members)))
        answer = desk.operator("cards", "import", ISSUER, feed)
        assert answer.code == 2
        assert reason in answer.err


# Files for the bureau


def test_the_bureau_reads_every_pin_once(desk: Desk) -> None:
    desk.generate(*MADE)
    assert desk.mailers() == Answer(0, f"4 PINs: {desk.out}\n", "")
    assert stat.S_IMODE(desk.out.stat().st_mode) == 0o600
    pins = desk.read()
    assert pins.keys() == {*MADE}
    assert all(len(pin) == 4 for pin in pins.values())
    assert desk.vault.parts == 2
    assert desk.audited() == [(card_id, 0, None) for card_id in MADE]
    assert desk.card("card-1") == (0, "ISO0", 0)
    assert not list(desk.out.parent.glob("*.part"))
    text = desk.out.read_text()
    assert not any(pan in text for pan in PANS)
    again = desk.out.with_name("again")
    assert desk.mailers(out=again) == Answer(0, "no PIN is due\n", "")
    assert not again.exists()


def test_cards_that_are_personalised_closed_or_without_a_pin_are_not_due(desk: Desk) -> None:
    desk.generate("card-1", "card-2", "card-3")
    desk.operator.must("cards", "personalised", ISSUER, "card-1")
    desk.operator.must("cards", "state", ISSUER, "card-2", "closed")
    desk.mailers()
    assert desk.read().keys() == {"card-3"}


def test_the_pin_of_a_virtual_card_does_not_go(desk: Desk) -> None:
    desk.generate("card-1", "card-2")
    run_sql(desk.url, "UPDATE cards SET card_type = 'VIRTUAL' WHERE card_id = 'card-1'")
    desk.mailers()
    assert desk.read().keys() == {"card-2"}
    again = desk.out.with_name("again")
    assert desk.mailers("--card", "card-1", "--again", "lost", out=again).code == 2
    assert not again.exists()


@pytest.mark.parametrize(
    "reissued",
    [{"plasticId": "12"}, {"psn": 1}, {"expiry": "1232"}, {"personalised": False}],
)
def test_the_pin_of_a_plastic_that_is_reissued_is_due_again(
    desk: Desk, reissued: dict[str, object]
) -> None:
    desk.bring("new-1", PANS[0], pinStatus="D", plasticId="11")
    desk.mailers()
    desk.operator.must("cards", "personalised", ISSUER, "new-1")
    # The control: the same plastic once more.
    plastic = {"plasticId": "11", "personalised": True}
    desk.bring("new-1", PANS[0], **plastic)
    assert desk.card("new-1")[2] == 0
    desk.bring("new-1", PANS[0], **(plastic | reissued))
    assert desk.card("new-1")[2] is None


def test_a_pin_goes_again_with_a_reason_only(desk: Desk) -> None:
    desk.generate("card-1", "card-2")
    desk.mailers()
    first, again = desk.read(), desk.out.with_name("again")
    for words in (("--card", "card-1"), ("--again", "lost")):
        assert desk.mailers(*words, out=again).err == "--card and --again belong together\n"
    assert desk.mailers("--card", "card-1", "--again", "4111111111111111", out=again).code == 2
    answer = desk.mailers("--card", "card-1", "--again", "the letter was lost", out=again)
    assert answer == Answer(0, f"1 PINs: {again}\n", "")
    assert desk.read(again) == {"card-1": first["card-1"]}
    assert desk.audited()[-1] == ("card-1", 0, "the letter was lost")


def test_cards_that_have_no_pin_to_send_again_are_named(desk: Desk) -> None:
    desk.generate("card-1")
    words = ("--card", "card-1", "--card", "card-2", "--card", "nobody", "--again", "lost")
    answer = desk.mailers(*words)
    assert answer.code == 2
    assert answer.err == "".join(
        f"card {card_id}: it has no PIN, or is not there, closed or virtual\n"
        for card_id in ("card-2", "nobody")
    )
    assert desk.read().keys() == {"card-1"}


def test_a_file_is_gone_on_with_where_it_ended(desk: Desk) -> None:
    desk.generate(*MADE)
    desk.vault.away_at = 2
    assert desk.mailers().code == 2
    assert not desk.out.exists()
    begun = desk.out.with_name(f"{desk.out.name}.part")
    assert stat.S_IMODE(begun.stat().st_mode) == 0o600
    with begun.open("a") as stream:
        # The machine ended while it wrote the next part.
        stream.write('{"layout":1,"issuerId":"testb')
    desk.vault.away_at = None
    desk.mailers()
    assert desk.read().keys() == {*MADE}
    assert desk.audited() == [(card_id, 0, None) for card_id in MADE]


def test_what_stands_in_the_file_and_the_database_does_not_know_is_not_handed_out_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.generate(*MADE)
    with monkeypatch.context() as dying:

        def die(*_: object) -> None:
            if desk.vault.parts:
                raise VaultUnavailable

        dying.setattr("cms.operator.mailers.mailers.note", die)
        assert desk.mailers().code == 2
    assert desk.audited() == []
    desk.mailers()
    assert desk.read().keys() == {*MADE}
    assert desk.vault.parts == 2
    assert desk.audited() == [(card_id, 0, None) for card_id in MADE]


def test_a_pin_that_does_not_open_is_named_and_stops_no_other(desk: Desk) -> None:
    desk.generate(*MADE)
    run_sql(
        desk.url,
        "UPDATE cards SET sealed_pin = (SELECT sealed_pin FROM cards WHERE card_id = 'card-1')"
        " WHERE card_id = 'card-2'",
    )
    run_sql(desk.url, "UPDATE cards SET counter = 7 WHERE card_id = 'card-3'")
    answer = desk.mailers()
    assert answer.code == 2
    assert answer.err == (
        "card card-2: its PIN or its record does not open\n"
        "card card-3: its counter is not the newest of its history\n"
    )
    assert desk.read().keys() == {"card-1", "card-4"}
    assert desk.audited("pin.mailer.failed") == [
        ("card-2", None, "SEAL_BROKEN"),
        ("card-3", None, "SEAL_BROKEN"),
    ]


@pytest.mark.parametrize("begun", ["something else", '{"count":1}\n', "[]\n"])
def test_what_is_something_else_is_left_alone(desk: Desk, begun: str) -> None:
    desk.generate("card-1")
    part = desk.out.with_name(f"{desk.out.name}.part")
    part.touch(mode=0o600)
    part.write_text(begun)
    assert "is something else" in desk.mailers().err
    assert part.read_text() == begun
    part.unlink()
    desk.out.write_text("there")
    assert desk.mailers().err == "the file is there already\n"
    assert desk.out.read_text() == "there"


def test_a_begun_file_that_others_may_read_is_refused(desk: Desk) -> None:
    desk.generate("card-1")
    part = desk.out.with_name(f"{desk.out.name}.part")
    part.touch()
    part.chmod(0o640)
    assert "not this user's alone" in desk.mailers().err
    part.chmod(0o600)
    assert desk.mailers().code == 0


def test_two_commands_do_not_write_one_file(desk: Desk) -> None:
    desk.generate("card-1")
    part = desk.out.with_name(f"{desk.out.name}.part")
    other = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(other, fcntl.LOCK_EX)
    assert desk.mailers().err == "another command writes this file\n"
    os.close(other)
    assert desk.mailers().code == 0


def test_without_a_bureau_nothing_is_written(desk: Desk) -> None:
    desk.generate("card-1")
    change_manifest(desk.vault, ISSUER, bureau=None)
    assert desk.mailers().err == "the manifest names no bureau\n"
    assert not list(desk.out.parent.glob("mailers*"))
    assert desk.audited() == []


def test_the_log_of_the_vault_and_the_audit_tell_the_same(desk: Desk, tmp_path: Path) -> None:
    desk.generate(*MADE)
    desk.mailers()
    lines = HostLog(tmp_path / "log", desk.hsm_token.mac).lines()
    later = datetime.now(UTC) + timedelta(hours=1)
    comparison = Comparison({line.receipt: line for line in lines}, later)
    with admin.transaction(desk.url) as database:
        rows = list(admin.receipt_rows(database, ISSUER, EVENTS))
    assert list(comparison.differences(rows)) == []
    assert (comparison.rows, comparison.not_stored()) == (8, 0)
    # The control: a row less shows.
    comparison = Comparison(comparison.lines, later)
    assert len(list(comparison.differences(rows[:-1]))) == 1
