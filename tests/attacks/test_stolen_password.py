"""Whoever has the password of an issuer's own server at the pincontrol face, and the web tier.

It asks the vault itself, with every sealed value that the database has, and reads the digits of a
PIN with a page's key of its own. So it sees the PIN of every plastic of the issuer: the vault's
limits say how many on a day, and each is in the vault's own log.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest

from hsm.errors import HsmError, LimitReached
from hsm.port import CardRef, Purpose, SealedPin, SealedRecord
from tests.attacks.database_owner import decrypted
from tests.attacks.table import Attacker
from tests.contracts.issuer import ISSUER_ID, Issuer, open_host, open_issuer, page_key
from tests.contracts.software_token import SoftwareToken
from tests.pans import PANS

ATTACKER = Attacker(
    who="an issuer's server at the pincontrol face, or whoever has its password",
    gets=(
        "control ids for every plastic of its issuer: with them it can see PINs, and set "
        "those of plastics that are not produced. Each is in the audit, with the "
        "`auditUser` it named"
    ),
    does_not=(
        "act for another issuer; set the PIN of a produced plastic; see or set more PINs "
        "in a day than the manifest's "
        "[limits](docs/cardholder-faces.md#how-many-pins-in-a-day), at each vault host, "
        "even by calling the vault itself"
    ),
)

PINS = ("4071", "9382", "2846", "6193", "5027")
CARD_MAX, CLIENT_MAX = 2, 4


@dataclass(frozen=True)
class Row:
    """What the database has of a card."""

    card: CardRef
    plastic_id: str
    sealed_record: SealedRecord
    sealed_pin: SealedPin


@dataclass(frozen=True)
class Thief:
    """The attacker: it has the password, and all rows."""

    issuer: Issuer
    rows: list[Row]

    def see(self, row: Row) -> str:
        """Read the PIN of a plastic as a page that tells text does."""
        granted = self.issuer.grant_plastic(
            Purpose.VIEW, row.sealed_record, row.card, plastic_id=row.plastic_id
        )
        key, jwk = page_key()
        told = self.issuer.digits(granted, row.sealed_pin, row.sealed_record, jwk)
        return str(decrypted(told, key)["digits"])

    def see_all(self, rounds: int = 1) -> list[str]:
        """Read the PINs of all plastics, one after the other; leave out what is refused."""
        seen = []
        for row in self.rows * rounds:
            try:
                seen.append(self.see(row))
            except LimitReached:
                continue
        return seen

    def set_pin(self, row: Row) -> None:
        granted = self.issuer.grant_plastic(
            Purpose.SET, row.sealed_record, row.card, plastic_id=row.plastic_id
        )
        self.issuer.set_on_page(granted, row.sealed_record, "7318")


def thief(tmp_path: Path, **limits: int) -> Thief:
    issuer = open_issuer(
        open_host(SoftwareToken(), tmp_path),
        policy={"text_reveal": True},
        limits={"handouts_card_day_max": CARD_MAX, "handouts_client_day_max": CLIENT_MAX} | limits,
    )
    rows = []
    for number, pin in enumerate(PINS):
        card, pan = CardRef(ISSUER_ID, f"card-{number}"), PANS[number % len(PANS)]
        record = issuer.seal_record(pan, card, plastic_id=str(number))
        sealed_pin = issuer.set_pin(pin, record, pan, card)
        rows.append(Row(card, str(number), record, sealed_pin))
    return Thief(issuer, rows)


def test_it_sees_pins_of_every_plastic_up_to_the_limit_of_a_day_and_then_no_more(
    tmp_path: Path,
) -> None:
    attacker = thief(tmp_path)
    assert attacker.see_all(rounds=3) == [*PINS[:CLIENT_MAX]]
    for refused in (attacker.see, attacker.set_pin):
        with pytest.raises(LimitReached):
            refused(attacker.rows[0])


def test_it_sees_one_card_no_more_often_than_that_may_be_seen(tmp_path: Path) -> None:
    attacker = thief(tmp_path)
    for _ in range(CARD_MAX):
        attacker.see(attacker.rows[0])
    for refused in (attacker.see, attacker.set_pin):
        with pytest.raises(LimitReached):
            refused(attacker.rows[0])
    attacker.set_pin(attacker.rows[1])


def test_another_host_over_the_same_hsm_token_counts_for_itself(tmp_path: Path) -> None:
    """What the attacker still gets: as much again at each host of the vault."""
    attacker = thief(tmp_path)
    attacker.see_all()
    there = Thief(attacker.issuer.with_members(), attacker.rows)
    assert len(there.see_all()) == CLIENT_MAX


def test_where_the_manifest_allows_more_it_sees_them_all_and_goes_on(tmp_path: Path) -> None:
    attacker = thief(tmp_path, handouts_card_day_max=100, handouts_client_day_max=100)
    assert attacker.see_all(rounds=3) == [*PINS] * 3


def test_a_grant_shows_no_second_image_and_no_second_text(tmp_path: Path) -> None:
    attacker = thief(tmp_path, handouts_card_day_max=100, handouts_client_day_max=100)
    row, issuer = attacker.rows[0], attacker.issuer
    granted = issuer.grant_plastic(
        Purpose.VIEW, row.sealed_record, row.card, plastic_id=row.plastic_id
    )
    issuer.draw(granted, row.sealed_pin, row.sealed_record)
    issuer.digits(granted, row.sealed_pin, row.sealed_record, page_key()[1])
    with pytest.raises(LimitReached):
        issuer.draw(granted, row.sealed_pin, row.sealed_record)
    with pytest.raises(LimitReached):
        issuer.digits(granted, row.sealed_pin, row.sealed_record, page_key()[1])


def test_without_the_password_it_sees_nothing(tmp_path: Path) -> None:
    attacker = thief(tmp_path)
    others = attacker.issuer.with_members(
        clients=[
            {**client, "secrets": [{"sha256": "0" * 64}]} if client["kind"] == "server" else client
            for client in attacker.issuer.members["clients"]  # type: ignore[attr-defined]
        ]
    )
    with pytest.raises(HsmError):
        Thief(others, attacker.rows).see(attacker.rows[0])
