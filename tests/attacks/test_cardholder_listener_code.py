"""Code in the web's cardholder listener: its user, settings, socket, and what it receives."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from crypto.secret import Secret
from hsm.errors import BearerRefused, EvidenceRefused, GrantRefused, LimitReached
from hsm.messages import DigitsJwe, ExportJwe, GrantBearer, GrantServer, SocketName
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import CardRef, Purpose, SealedGrant, SealedPin, SealedRecord
from tests.attacks.database_owner import decrypted
from tests.attacks.listeners import (
    PIN,
    SEPARATE,
    TakenOver,
    found_by_code_in,
    taken_over,
)
from tests.attacks.table import Attacker
from tests.bearers import bearer
from tests.contracts.issuer import CARD, HOLDER, ISSUER_ID, PLASTIC_ID, SERVER_SECRET, page_key
from tests.deployment import deployment, new_database

ATTACKER = Attacker(
    who="whoever executes code in the web's cardholder listener, which is a user of its own",
    gets=(
        "the cardholders' socket: it sees and sets the PINs of those whose access token it "
        "receives, of which a call of their app for the card's status is enough, and of every "
        "plastic of an issuer whose server's password it receives, until that is replaced. The "
        "manifest's limits hold, and each is in the vault's log"
    ),
    does_not=(
        "see or set the PIN of a cardholder whose access token it did not receive, with all rows "
        "of the database. Export a PIN, reach another socket, the HSM token, its user PIN, the "
        "vault's files or memory"
    ),
)
pytestmark = pytest.mark.slow
LIMIT = 3


@pytest.fixture
def attacker(tmp_path: Path) -> Iterator[TakenOver]:
    limits = {"handouts_card_day_max": LIMIT}
    with taken_over(tmp_path, SocketName.CARDHOLDER, limits=limits) as attacker:
        yield attacker


def see(attacker: TakenOver, token: str, card: CardRef = CARD) -> str:
    """See the PIN of the card by an access token."""
    granted = attacker.call(
        GrantBearer(
            *(Secret(token), attacker.issuer.app_id, Purpose.VIEW, card, attacker.record, 1)
        )
    )
    return show(attacker, granted.grant, granted.control_token)


def show(attacker: TakenOver, grant: SealedGrant, control_token: str) -> str:
    key, jwk = page_key()
    told = attacker.call(DigitsJwe(grant, control_token, attacker.sealed_pin, attacker.record, jwk))
    return str(decrypted(told.value, key)["digits"])


def test_it_sees_the_pin_of_whom_it_hears_within_the_limit_and_each_is_logged(
    attacker: TakenOver,
) -> None:
    received = bearer(HOLDER, ISSUER_ID)
    before = attacker.log_lines()
    for times in range(1, LIMIT + 1):
        assert see(attacker, received) == PIN
        assert attacker.log_lines() == before + times
    with pytest.raises(LimitReached):
        see(attacker, received)
    assert attacker.log_lines() == before + LIMIT + 1  # that it was refused, too


def test_it_sees_every_plastic_by_a_password_that_it_hears(attacker: TakenOver) -> None:
    wrong, right = (
        GrantServer(
            *(attacker.issuer.server_id, Secret(secret), PLASTIC_ID, Purpose.VIEW),
            *(CARD, attacker.record, 1),
        )
        for secret in ("guessed", SERVER_SECRET)
    )
    with pytest.raises(EvidenceRefused):
        attacker.call(wrong)
    granted = attacker.call(right)
    assert show(attacker, granted.grant, granted.control_token) == PIN


def test_without_the_holders_access_token_it_sees_nothing(attacker: TakenOver) -> None:
    with pytest.raises(EvidenceRefused):
        see(attacker, bearer("holder-2", ISSUER_ID))
    with pytest.raises(BearerRefused):
        see(attacker, bearer(HOLDER, ISSUER_ID)[:-8] + "AAAAAAAA")
    granted = attacker.issuer.grant_view(attacker.record)
    with pytest.raises(GrantRefused):  # of another's row it has the grant, not the control token
        show(attacker, granted.grant, granted.control_token[:-1] + "x")
    assert not attacker.received_pin()
    assert show(attacker, granted.grant, granted.control_token) == PIN  # the control


def test_it_exports_nothing(attacker: TakenOver) -> None:
    export = ExportJwe(SealedPin(attacker.sealed_pin), SealedRecord(attacker.record), CARD, 1)
    with attacker.at(SocketName.D1) as elsewhere:
        assert elsewhere.call(export).value  # the control
    with pytest.raises(ConnectionError):
        attacker.call(export)


def test_nothing_around_it_leads_to_the_hsm_token(
    open_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    prepared = deployment(open_path, new_database(postgres), softhsm).for_cardholders()
    prepared.vault(hsm_token)
    found = found_by_code_in(prepared, softhsm, SocketName.CARDHOLDER)
    assert found == {
        "settings": [],
        "sockets": ["cardholder.0.sock"],
        "memory": [],
        "files": [] if SEPARATE else ["pin", "tokens", "log"],
    }
