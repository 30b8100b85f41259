"""Code in the web's D1 listener: its user, settings and socket, and the database's rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners.jwe import decrypt
from cms.sandbox.partners.pin_blocks import iso0_pin
from crypto.secret import Secret
from hsm.errors import CallerRefused
from hsm.messages import ExportJwe, GrantBearer, IssueToken, SetPinFromJwe, SocketName
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import CertificateFacts, PinBlockType, Purpose
from tests.attacks.listeners import (
    PIN,
    SEPARATE,
    TakenOver,
    found_by_code_in,
    found_where_all_are_one_user,
    taken_over,
)
from tests.attacks.table import Attacker
from tests.bearers import bearer
from tests.contracts.issuer import CARD, HOLDER, ISSUER_ID, block
from tests.deployment import deployment, new_database
from tests.pans import PAN

ATTACKER = Attacker(
    who="whoever executes code in the web's D1 listener, which is a user of its own",
    gets=(
        "D1's socket: PINs enciphered to D1's key in the manifest, each in the vault's log, and "
        "the guesses of the line above. It can set a PIN that it knows on a card whose PAN it "
        "knows, and get access tokens of D1 by a secret that it receives"
    ),
    does_not=(
        "see a PIN, or name to whom one is enciphered, even with a cardholder's access token. "
        "Reach another socket, the HSM token, its user PIN, the vault's files or memory. Where "
        "web and vault are one user, it reads that user's files, the HSM token's user PIN first"
    ),
)
pytestmark = pytest.mark.slow


@pytest.fixture
def attacker(tmp_path: Path) -> Iterator[TakenOver]:
    with taken_over(tmp_path, SocketName.D1) as attacker:
        yield attacker


def test_it_gets_a_pin_for_d1_only_and_each_is_logged(attacker: TakenOver) -> None:
    before = attacker.log_lines()
    for times in range(1, 4):
        handed = attacker.call(ExportJwe(attacker.sealed_pin, attacker.record, CARD, 1))
        assert attacker.log_lines() == before + times
    assert not attacker.received_pin()
    (text,) = decrypt(handed.value, attacker.issuer.d1_key).values()
    assert iso0_pin(text, PAN) == PIN  # what it would have with D1's key


def test_a_cardholder_s_access_token_is_worth_nothing_there(attacker: TakenOver) -> None:
    received = Secret(bearer(HOLDER, ISSUER_ID))
    message = GrantBearer(received, attacker.issuer.app_id, Purpose.VIEW, CARD, attacker.record, 1)
    with attacker.at(SocketName.CARDHOLDER) as elsewhere:
        assert elsewhere.call(message).grant  # the control
    with pytest.raises(ConnectionError):
        attacker.call(message)


def test_it_sets_a_pin_that_it_knows(attacker: TakenOver) -> None:
    jwe = attacker.issuer.pin_jwe({"pinBlock": block("407183", PAN)})
    before = attacker.log_lines()
    changed = attacker.call(
        SetPinFromJwe(jwe, PinBlockType.ISO0, CARD, attacker.record, 2, f"{ISSUER_ID}-d1")
    )
    assert changed.sealed_pin
    assert attacker.log_lines() == before + 1


def test_it_gets_no_access_token_without_a_secret(attacker: TakenOver) -> None:
    vouched = CertificateFacts("thumbprint", "CN=d1", frozenset(("CN=d1",)))
    with pytest.raises(CallerRefused):
        attacker.call(IssueToken(f"{ISSUER_ID}-d1", Secret("guessed"), vouched))
    assert attacker.call(IssueToken(f"{ISSUER_ID}-d1", Secret(attacker.D1_SECRET), vouched))


def test_nothing_around_it_leads_to_the_hsm_token(
    open_path: Path, postgres: Postgres, softhsm: SoftHsm, hsm_token: Pkcs11Token
) -> None:
    prepared = deployment(open_path, new_database(postgres), softhsm)
    prepared.vault(hsm_token)
    found = found_by_code_in(prepared, softhsm, SocketName.D1)
    assert found == {
        "settings": [],
        "sockets": ["d1.0.sock"],
        "memory": [],
        "files": [] if SEPARATE else ["pin", "tokens", "log"],
    }
    assert found_where_all_are_one_user(prepared, softhsm)["files"]  # the control
