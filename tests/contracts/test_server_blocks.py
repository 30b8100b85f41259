"""PINs to and from an issuer's own server, under a key that it shares with the vault."""

import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from jwcrypto.jwk import JWK

from crypto.secret import Secret
from hsm.errors import (
    EvidenceRefused,
    KeyMissing,
    KeyUsedUp,
    LimitReached,
    PinRejected,
    SealBroken,
    TypeNotOffered,
    WeakPinRefused,
    WrongPinData,
)
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.hsm_token import KeyUnit
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import CardRef, SealedChange, SealedPin, SealedRecord
from hsm.vault import Vault
from tests.contracts.issuer import (
    LONG_PINS,
    PIN,
    PLASTIC_ID,
    SERVER_SECRET,
    Issuer,
    clients,
    open_issuer,
)
from tests.contracts.partner import Partner
from tests.contracts.served import Servers, open_served
from tests.crypto.ciphers import tdes_ecb, tdes_ecb_decrypt
from tests.devices import iso1_pin, iso1_text

INDEXES = {"0": 1, "next": 2}
SOCKETS_ID = "socketbank"


@dataclass(frozen=True)
class Server:
    """An issuer's own server, with the issuer's keys."""

    partner: Partner

    @property
    def issuer(self) -> Issuer:
        return self.partner.issuer

    @property
    def card(self) -> CardRef:
        return self.partner.card

    @property
    def sealed_record(self) -> SealedRecord:
        return self.issuer.seal_record(card=self.card)

    def with_members(self, **members: object) -> "Server":
        return replace(self, partner=self.partner.with_members(**members))

    def key(self, index: str = "0") -> bytes:
        return self.partner.key(KeyRole.ZPK_SERVER, INDEXES[index])

    def block(self, pin: str = PIN, index: str = "0") -> bytes:
        return tdes_ecb(self.key(index))(bytes.fromhex(iso1_text(pin)))

    def evidence(
        self, index: str, user: str | None, secret: str, plastic: str
    ) -> tuple[str, Secret[str], str, str]:
        """Say who asks for what; what is not given is right."""
        return user or self.issuer.server_id, Secret(secret), plastic, index

    def set(
        self,
        block: bytes,
        index: str = "0",
        counter: int = 1,
        user: str | None = None,
        secret: str = SERVER_SECRET,
        plastic: str = PLASTIC_ID,
    ) -> SealedChange:
        evidence = self.evidence(index, user, secret, plastic)
        return self.issuer.vault.set_pin_from_server(
            *evidence, block, self.card, self.sealed_record, counter
        )

    def sealed(self, pin: str = PIN, counter: int = 1) -> SealedPin:
        sealed_pin = self.set(self.block(pin), counter=counter).sealed_pin
        assert sealed_pin is not None
        return sealed_pin

    def view(
        self,
        sealed_pin: SealedPin,
        index: str = "0",
        counter: int = 1,
        user: str | None = None,
        secret: str = SERVER_SECRET,
        plastic: str = PLASTIC_ID,
    ) -> bytes:
        evidence = self.evidence(index, user, secret, plastic)
        return self.issuer.vault.export_server_block(
            *evidence, self.card, sealed_pin, self.sealed_record, counter
        ).value

    def pin(self, block: bytes, index: str = "0") -> str:
        return iso1_pin(tdes_ecb_decrypt(self.key(index))(block))


def operations(issuer: Issuer, **generations: int) -> dict[str, object]:
    keys = [
        {"client_id": issuer.server_id, "zpk_index": index, "generation": generation}
        for index, generation in generations.items()
    ]
    return {"pre_shared_keys": keys}


@pytest.fixture
def server(partner: Partner) -> Server:
    """At a host of its own, which has counted nothing."""
    return Server(partner.with_members(pin_operations=operations(partner.issuer, **INDEXES)))


@pytest.mark.parametrize("index", INDEXES)
@pytest.mark.parametrize("pin", ["4071", "407193", "407193521846"])
def test_a_pin_comes_and_goes_under_the_key_of_its_index(
    server: Server, index: str, pin: str
) -> None:
    server = server.with_members(policy=LONG_PINS)
    change = server.set(server.block(pin, index), index)
    assert change.sealed_pin is not None
    record = server.sealed_record
    assert server.issuer.pin(change.sealed_pin, record, card=server.card) == pin
    for other in INDEXES:
        assert server.pin(server.view(change.sealed_pin, other), other) == pin


def test_a_block_is_another_each_time(server: Server) -> None:
    sealed_pin = server.sealed()
    assert len({server.view(sealed_pin) for _ in range(5)}) == 5


def test_a_pin_is_of_its_card_and_counter(server: Server) -> None:
    sealed_pin = server.sealed(counter=3)
    assert server.view(sealed_pin, counter=3)
    for counter in (2, 4):
        with pytest.raises(SealBroken):
            server.view(sealed_pin, counter=counter)


@pytest.mark.parametrize(
    "wrong",
    [
        {"secret": "wrong"},
        {"secret": ""},
        {"user": "sharesbank-app"},
        {"user": "sharesbank"},
        {"user": "nobody"},
        {"plastic": "70002"},
        {"plastic": ""},
    ],
    ids=str,
)
def test_nothing_is_shown_or_set_without_evidence(server: Server, wrong: dict[str, str]) -> None:
    sealed_pin = server.sealed()
    with pytest.raises(EvidenceRefused):
        server.view(sealed_pin, **wrong)  # type: ignore[arg-type] # none of them is counter
    with pytest.raises(EvidenceRefused):
        server.set(server.block(), **wrong)  # type: ignore[arg-type] # the same


def test_a_server_has_the_keys_that_the_manifest_names_and_no_others(server: Server) -> None:
    sealed_pin = server.sealed()
    app, own = clients(server.issuer.issuer_id)
    another = {**own, "client_id": f"{server.issuer.issuer_id}-other"}
    two = server.with_members(clients=[app, own, another])
    for off, index, user in (
        (server, "1", server.issuer.server_id),
        (server, "", server.issuer.server_id),
        (two, "0", str(another["client_id"])),
        (server.with_members(pin_operations={}), "0", server.issuer.server_id),
        (server.with_members(pin_operations={"pki": True}), "0", server.issuer.server_id),
    ):
        with pytest.raises(TypeNotOffered):
            off.view(sealed_pin, index, user=user)
        with pytest.raises(TypeNotOffered):
            off.set(server.block(), index, user=user)


def test_without_the_key_the_vault_is_unavailable_and_the_pin_not_refused(server: Server) -> None:
    sealed_pin = server.sealed()
    missing = server.with_members(pin_operations=operations(server.issuer, **{"0": 9}))
    with pytest.raises(KeyMissing):
        missing.view(sealed_pin)
    with pytest.raises(KeyMissing):
        missing.set(server.block())


def test_a_key_that_enciphered_enough_shows_no_pin_and_still_takes_one(server: Server) -> None:
    for limits, refused in (
        ({"tdes_blocks_max": 10}, pytest.raises(KeyUsedUp)),
        ({}, nullcontext()),
    ):
        there = server.with_members(limits=limits)
        vault = there.issuer.vault
        assert isinstance(vault, Vault)
        sealed_pin = there.sealed()
        label = KeyLabel(KeyRole.ZPK_SERVER, INDEXES["0"], there.issuer.issuer_id)
        vault._key_budgets.count(label, KeyUnit.TDES_BLOCKS, 10)
        with refused:
            there.view(sealed_pin)
        there.sealed(counter=2)


def test_what_is_no_block_of_format_1_under_the_key_is_refused(server: Server) -> None:
    enciphered = tdes_ecb(server.key())
    blocks = [
        enciphered(bytes.fromhex(start + PIN + "A" * 10)) for start in ("04", "24", "34", "1F")
    ]
    blocks.append(enciphered(bytes.fromhex("14" + "40A1" + "A" * 10)))
    blocks += [b"", server.block()[:7], server.block() + b"\0", server.block() * 2]
    for block in blocks:
        server.issuer.vault.forget_failures(server.card)
        with pytest.raises(WrongPinData) as refusal:
            server.set(block)
        assert refusal.value.args == ()


def test_wrong_blocks_and_weak_pins_are_counted_for_the_card(server: Server) -> None:
    server = server.with_members(policy={"failures_card_max": 2, "refusals_card_max": 3})
    for _ in range(2):
        with pytest.raises(WrongPinData):
            server.set(tdes_ecb(server.key())(bytes(8)))
    with pytest.raises(PinRejected):
        server.set(server.block())
    server.issuer.vault.forget_failures(server.card)
    for _ in range(3):
        with pytest.raises(WeakPinRefused):
            server.set(server.block("1111"))
    with pytest.raises(PinRejected):
        server.set(server.block())
    # What D1 sends is counted apart.
    assert server.partner.set_iso0()


def test_servers_count_against_the_limits_of_a_day(server: Server) -> None:
    server = server.with_members(limits={"handouts_card_day_max": 2})
    assert server.view(server.sealed())
    with pytest.raises(LimitReached):
        server.sealed()


@pytest.fixture(scope="module")
def behind_sockets(
    hsm_token: Pkcs11Token, start_servers: Callable[[str], Servers], hosts: Path
) -> Iterator[Server]:
    """A server of another issuer, whose vault is a program that found the key at its start."""
    value = Secret(os.urandom(16))
    zpk = ClearKey(KeyKind.TDES_2KEY, value)
    label = shared_keys.store(hsm_token, KeyRole.ZPK_SERVER, SOCKETS_ID, zpk)
    issuer = open_issuer(open_served(start_servers("SoftHSM2"), hosts), SOCKETS_ID)
    there = issuer.with_members(pin_operations=operations(issuer, **{"0": 1}))
    yield Server(Partner(there, {label: value.reveal()}, JWK.generate(kty="EC", crv="P-256")))
    hsm_token._keys.pop(label).destroy()


def test_it_is_the_same_behind_sockets(behind_sockets: Server) -> None:
    server = behind_sockets
    block = server.view(server.sealed())
    assert server.pin(block) == PIN
    for wrong in ({"secret": "wrong"}, {"user": f"{SOCKETS_ID}-app"}, {"plastic": "70002"}):
        with pytest.raises(EvidenceRefused):
            server.set(server.block(), **wrong)  # type: ignore[arg-type] # none of them is counter
    with pytest.raises(TypeNotOffered):
        server.set(server.block(), "1")
    with pytest.raises(WrongPinData):
        server.set(block[:7])
    with pytest.raises(WeakPinRefused):
        server.set(server.block("1111"))
