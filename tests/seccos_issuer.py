"""An issuer whose cards take SECCOS PINs, D1's side of it, and a vault with their keys."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from jwcrypto.jwk import JWK

from cms.sandbox.partners.d1_seccos import MEMBERS, Card, Keys, Seccos
from cms.sandbox.partners.jwe import encrypt
from crypto.seccos.profile import SeccosProfile
from crypto.secret import Secret
from hsm.d1_pins import D1Pins
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.seccos import Accepted
from hsm.vault import Vault
from tests.contracts.software_token import SoftwareToken
from tests.issuer_records import SampleIssuer, open_issuer
from tests.operators import minimum_versions, prepare_host, signed

#: As many as tests need: each takes one, so that its failures count against nobody else.
ISSUER_IDS: Final = tuple(f"girobank{number:02}" for number in range(60))
KEYS: Final = Keys(bytes(range(16)), bytes(range(32)), bytes(range(100, 116)))
TDES_KEYS: Final[Mapping[KeyRole, bytes]] = {
    KeyRole.SECCOS_PIN: KEYS.pin_block,
    KeyRole.SECCOS_MAC_MASTER: KEYS.mac,
    KeyRole.PVK: bytes(range(50, 66)),
    KeyRole.PVK_3624: bytes(range(70, 86)),
    KeyRole.SMC: bytes(range(120, 136)),
    KeyRole.SMI: bytes(range(140, 156)),
}
AES_KEYS: Final[Mapping[KeyRole, bytes]] = {
    KeyRole.SECCOS_PRW: KEYS.prw,
    KeyRole.PRW: bytes(range(200, 232)),
}
TABLE: Final = "0123456789012345"
#: PVV and offset; the PRW comes with the profile.
PVV_AND_OFFSET: Final = {"pvv": {"key_index": 1}, "offset_3624": {"table": TABLE}}
EXPIRY_YYMM: Final = "3012"


class CountedPins(D1Pins):
    """Counts how many PINs it is given."""

    tried = 0

    def read(self, *given: Any) -> Accepted:  # noqa: ANN401 - passed on
        self.tried += 1
        return super().read(*given)


class Watched(Vault):
    """A vault that counts how many PINs it tries, and whose clock a test can set."""

    ahead = timedelta(0)

    def __init__(self, *given: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*given)
        keys = (self._hsm_token, self._keyring, self._jose_keys, self._key_budgets)
        self._d1_pins: CountedPins = CountedPins(*keys, self._pin_changes)

    @property
    def tried(self) -> int:
        return self._d1_pins.tried


def watched_vault(directory: Path) -> Watched:
    """Open a vault over a software token that has the shared keys of every issuer here.

    Its state is in *directory*.
    """
    hsm_token = SoftwareToken()
    for issuer_id in ISSUER_IDS:
        for keys, kind in ((TDES_KEYS, KeyKind.TDES_2KEY), (AES_KEYS, KeyKind.AES_256)):
            for role, key in keys.items():
                hsm_token.import_key(KeyLabel(role, 1, issuer_id), kind, Secret(key))
    vault: Watched = Watched(
        hsm_token, directory, prepare_host(directory), lambda: datetime.now(UTC) + vault.ahead
    )
    vault.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    return vault


@dataclass(frozen=True)
class SeccosIssuer:
    """The issuer, and what D1 and the authorisation host know of it."""

    sample_issuer: SampleIssuer
    host_key: JWK
    """The private key of the authorisation host."""

    def card(self, card_id: str = "card-1") -> Card:
        """A card as D1 knows it."""
        return Card(self.sample_issuer.pans[card_id], 0, EXPIRY_YYMM)

    def payload(self, pin: str, counter: int, card_id: str = "card-1") -> dict[str, object]:
        """What D1 computes for the card whose counter it has read."""
        card = self.card(card_id)
        names = {name: getattr(SeccosProfile().payload, name)[0] for name in MEMBERS}
        d1 = Seccos(self.sample_issuer.issuer_id, card_id, card, KEYS, "SECCOS", names)
        return d1.payload(pin, counter)

    def jwe(self, plaintext: Mapping[str, object]) -> str:
        return encrypt(dict(plaintext), self.sample_issuer.d1_jwk)

    def seccos(self, pin: str, counter: int, card_id: str = "card-1") -> str:
        """What D1 sends; new each time."""
        return self.jwe(self.payload(pin, counter, card_id))

    def wrong_prw(self, counter: int, card_id: str = "card-1") -> str:
        """Send a guess: all is right but for the PRW."""
        return self.jwe(flipped(self.payload("4071", counter, card_id), "prw"))

    def wrong_mac(self, counter: int, card_id: str = "card-1") -> str:
        return self.jwe(flipped(self.payload("4071", counter, card_id), "mac"))


def open_girobank(
    url: str,
    vault: Vault,
    issuer_id: str = ISSUER_IDS[0],
    *,
    profile: Mapping[str, object] | None = None,
    verification: Mapping[str, object] | None = None,
) -> SeccosIssuer:
    """Add an issuer with cards; *profile* None is an issuer without SECCOS."""
    host_key = JWK.generate(kty="EC", crv="P-256", kid="host-2026")
    sample_issuer = open_issuer(
        url,
        vault,
        issuer_id,
        auth="certificate",
        seccos=profile,
        verification=verification or {},
        verification_host={"jwk": json.loads(host_key.export_public())},
    )
    return SeccosIssuer(sample_issuer, host_key)


def flipped(payload: Mapping[str, object], name: str, bit: int = 0) -> dict[str, object]:
    """Change one bit of a member."""
    value = bytearray.fromhex(str(payload[name]))
    value[bit // 8] ^= 1 << bit % 8
    return {**payload, name: value.hex().upper()}
