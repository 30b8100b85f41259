"""An issuer and what it shares with D1 and with its authorisation host, without a database."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Final, Self

import pytest
from hypothesis import strategies
from jwcrypto.jwk import JWK

from cms.sandbox.partners.jwe import decrypt
from crypto.seccos.profile import SeccosProfile
from crypto.secret import Secret
from hsm.errors import MechanismMissing, PinRejected
from hsm.pkcs11 import mechanisms, shared_keys
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import KEY_BYTES, KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import CardRef, PinBlockType, SealedChange, SealedRecord
from tests.contracts.issuer import PIN, Host, Issuer, block, open_issuer
from tests.crypto.seccos.d1_side import Card, SharedKeys, Writer
from tests.pans import PAN

ISSUER_ID: Final = "sharesbank"
MAC_ONLY_ID: Final = "maconlybnk"
#: Everything but the issuer id is this; 7 changes were made before the one of the test.
CARD_ID: Final = "card-1"
CARD: Final = Card(PAN, 1, "2912")
CHANGES: Final = 7

AES, TDES = KeyKind.AES_256, KeyKind.TDES_2KEY
#: The generations of each role, counted from 1.
KEYS: Final[Mapping[KeyRole, tuple[KeyKind, ...]]] = {
    KeyRole.SECCOS_PIN: (TDES, TDES),
    KeyRole.SECCOS_PRW: (AES, AES, TDES),
    KeyRole.SECCOS_PRW_RETAIL: (TDES, TDES),
    KeyRole.SECCOS_MAC: (TDES, TDES),
    KeyRole.SECCOS_MAC_CMAC: (AES, AES, TDES),
    KeyRole.SECCOS_MAC_MASTER: (TDES, TDES),
    KeyRole.PVK: (TDES, TDES),
    KeyRole.PVK_3624: (TDES, TDES),
    KeyRole.PRW: (AES, AES),
    KeyRole.ZPK: (TDES, TDES),
    KeyRole.ZPK_AES: (AES, AES),
    KeyRole.BUREAU_PIN: (TDES, TDES),
    KeyRole.BUREAU_PIN_AES: (AES, AES),
    KeyRole.BUREAU_MAC: (AES, AES),
    KeyRole.BUREAU_MAC_RETAIL: (TDES, TDES),
    KeyRole.SMC: (TDES, TDES),
    KeyRole.SMI: (TDES, TDES),
    KeyRole.ZPK_SERVER: (TDES, TDES),
}
#: What a payload of SECCOS takes unless its profile says otherwise.
SECCOS_ROLES: Final = (KeyRole.SECCOS_PIN, KeyRole.SECCOS_MAC_MASTER)
TDES_CMAC_GENERATION: Final = 3
PRW_ROLES: Final = {"iso9797-alg3": KeyRole.SECCOS_PRW_RETAIL}
MAC_ROLES: Final = {"iso9797-alg3-pad2": KeyRole.SECCOS_MAC}
#: What D1 calls the first two generations.
KEY_IDS: Final = {
    "payload": {
        "key_ids": [{"name": "2025", "generation": 1}, {"name": "2026", "generation": 2}],
    }
}


def with_check_digit(digits: str) -> str:
    """Add the Luhn digit, without which a PAN is not sealed."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return f"{digits}{-total % 10}"


def cards(pan_digits_min: int = 8) -> strategies.SearchStrategy[Card]:
    """Draw a card that the vault takes."""
    digits = strategies.text("0123456789", min_size=pan_digits_min - 1, max_size=18)
    expiry = strategies.builds(
        "{:02d}{:02d}".format, strategies.integers(0, 99), strategies.integers(1, 12)
    )
    return strategies.builds(Card, digits.map(with_check_digit), strategies.integers(0, 99), expiry)


@dataclass(frozen=True)
class Partner:
    """An issuer at a vault, and the other half of every key that it shares."""

    issuer: Issuer
    keys: Mapping[KeyLabel, bytes]
    host_key: JWK = field(repr=False)

    @cached_property
    def profile(self) -> SeccosProfile:
        """The SECCOS profile of its manifest, which it has."""
        return SeccosProfile.model_validate_json(json.dumps(self.issuer.members["seccos"]))

    @property
    def card(self) -> CardRef:
        return CardRef(self.issuer.issuer_id, CARD_ID)

    @cached_property
    def sealed_record(self) -> SealedRecord:
        """The record of its card, which is the same holder's whatever else a test sends."""
        return self.issuer.seal_record(card=self.card)

    def key(self, role: KeyRole, generation: int = 1) -> bytes:
        return self.keys[KeyLabel(role, generation, self.issuer.issuer_id)]

    def with_members(self, **members: object) -> Self:
        """Take it to a host of its own, where *members* of its manifest are others."""
        return replace(self, issuer=self.issuer.with_members(**members))

    def with_profile(self, body: Mapping[str, Any]) -> Self:
        """Have D1 send PINs by another SECCOS profile."""
        return self.with_members(seccos=body)

    def asking(self, **body: object) -> Self:
        """Ask for PIN verification values."""
        return self.with_members(verification=body)

    def writer(
        self, changes: int = CHANGES, card: Card = CARD, generation: int | None = None
    ) -> Writer:
        """D1's side, with the keys of the profile or of a *generation* that it names."""
        settings = self.profile
        block, prw, mac = settings.pin_block, settings.prw, settings.mac
        mac_role = MAC_ROLES.get(mac.alg, KeyRole.SECCOS_MAC_CMAC)
        if mac.session_key == "emv_csk":
            mac_role = KeyRole.SECCOS_MAC_MASTER
        chosen = {
            KeyRole.SECCOS_PIN: block.key_generation,
            PRW_ROLES.get(prw.alg, KeyRole.SECCOS_PRW): prw.key_generation,
            mac_role: mac.key_generation,
        }
        # Keys that the issuer was not given are of no use to D1 either.
        keys = [
            self.keys.get(KeyLabel(role, generation or number, self.issuer.issuer_id), bytes(16))
            for role, number in chosen.items()
        ]
        counter = settings.counter.expected(changes)
        return Writer(settings, SharedKeys(*keys), card, counter, os.urandom)

    def send(
        self,
        plaintext: object,
        *,
        changes: int = CHANGES,
        card: Card = CARD,
        block_type: PinBlockType = PinBlockType.SECCOS,
    ) -> SealedChange:
        """Let D1 send *plaintext* for *card* after so many *changes*."""
        month_year = card.expiry[2:] + card.expiry[:2]
        return self.issuer.change(
            self.issuer.pin_jwe(plaintext),
            self.issuer.seal_record(card.pan, self.card, card.psn, month_year),
            block_type,
            self.card,
            changes + 1,
        )

    def set_iso0(self, pin: str = PIN, card: Card = CARD, changes: int = CHANGES) -> SealedChange:
        plaintext = {"pinBlock": block(pin, card.pan)}
        return self.send(plaintext, changes=changes, card=card, block_type=PinBlockType.ISO0)

    def set_seccos(self, pin: str = PIN, card: Card = CARD, changes: int = CHANGES) -> SealedChange:
        leave_out_without(self.keys, *SECCOS_ROLES)
        return self.send(self.writer(changes, card).payload(pin), changes=changes, card=card)

    def refusal(self, plaintext: object, **how: Any) -> type[PinRejected]:  # noqa: ANN401 - of send
        """Return which refusal it is; it must say nothing else."""
        with pytest.raises(PinRejected) as raised:
            self.send(plaintext, **how)
        error = raised.value
        assert (error.args, str(error), error.__cause__) == ((), "", None)
        assert error.__context__ is None or error.__suppress_context__
        assert not getattr(error, "__notes__", [])
        return type(error)

    def exported(self, change: SealedChange, counter: int = CHANGES + 1) -> dict[str, Any]:
        """Export the values and open them as the authorisation host does."""
        given = (change.values, self.sealed_record, self.card, counter)
        jwe = self.issuer.vault.export_values(*given).value
        content: dict[str, Any] = decrypt(jwe, self.host_key)
        return content


def share_keys(hsm_token: HsmToken) -> Mapping[KeyLabel, bytes]:
    """Import keys for two issuers, one of which only checks MACs, and return all of them.

    What the module could not use is left out, as a ceremony leaves it out.
    """
    shared: dict[KeyLabel, bytes] = {}
    for issuer_id, roles in ((ISSUER_ID, [*KEYS]), (MAC_ONLY_ID, [KeyRole.SECCOS_MAC_MASTER])):
        for role in roles:
            for kind in filter(partial(is_usable, hsm_token, role), KEYS[role]):
                key = os.urandom(KEY_BYTES[kind])
                clear = ClearKey(kind, Secret(key))
                shared[shared_keys.store(hsm_token, role, issuer_id, clear)] = key
    return shared


def leave_out_without(keys: Mapping[KeyLabel, bytes], *roles: KeyRole) -> None:
    """End a test as skipped that needs keys of a role that the module could not use."""
    missing = {*roles} - {label.role for label in keys}
    if missing:
        pytest.skip(f"the module cannot use keys of role {', '.join(sorted(missing))}")


def is_usable(hsm_token: HsmToken, role: KeyRole, kind: KeyKind) -> bool:
    """Tell whether a PKCS#11 module has what a key needs."""
    if not isinstance(hsm_token, Pkcs11Token):
        return True
    try:
        mechanisms.require_for(hsm_token, [(role, kind)])
    except MechanismMissing:
        return False
    return True


def open_partner(host: Host, keys: Mapping[KeyLabel, bytes], issuer_id: str) -> Partner:
    """Have a manifest taken at *host*: all defaults, SECCOS and a host for the values.

    The HSM token of *host* had the *keys* before its vault was opened.
    """
    host_key = JWK.generate(kty="EC", crv="P-256", kid="host-2026")
    verification_host = {"jwk": json.loads(host_key.export_public())}
    issuer = open_issuer(host, issuer_id, verification_host=verification_host, seccos={})
    return Partner(issuer, keys, host_key)
