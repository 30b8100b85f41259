"""SECCOS payloads, read with the keys of the HSM token that D1 has too.

NOT PUBLIC: OUR DESIGN. What a payload looks like is a profile in the issuer's manifest
(:mod:`crypto.seccos.profile`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from crypto import retail_mac
from crypto.errors import CounterExhaustedError
from crypto.seccos import payload, session_key
from crypto.seccos.card import CardData
from crypto.seccos.payload import Payload
from crypto.seccos.profile import SeccosProfile
from crypto.seccos.session_key import SessionKeySteps
from crypto.seccos.verify import Keys, Verdict, verify
from crypto.types import Pin
from hsm.errors import CounterExhausted, NotGenuine, WrongPinData
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import LEFT_ROLES, KeyKind, KeyLabel, KeyRole
from hsm.port import ValueKind
from hsm.verification import Value, prw_value

CMAC_KINDS: Final[Mapping[str, KeyKind]] = {
    "aes-cmac": KeyKind.AES_256,
    "tdes-cmac": KeyKind.TDES_2KEY,
}


@dataclass(frozen=True, slots=True)
class Accepted:
    """A payload that passed its checks.

    *pin* is None where the profile checks the MAC only. *values* are what D1 computed: the block
    for the card, and D1's PRW if the profile says that it is stored.
    """

    pin: Pin | None
    values: Mapping[ValueKind, Value]


class SeccosReader:
    """Reads the payloads of one issuer's cards."""

    def __init__(
        self, hsm_token: HsmToken, keyring: Keyring, issuer_id: str, profile: SeccosProfile
    ) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._issuer_id = issuer_id
        self._profile = profile

    def read(self, members: Mapping[str, object], card: CardData, changes: int) -> Accepted:
        """Check a payload for *card*, whose PIN was changed *changes* times before.

        Raises:
            CounterExhausted: the profile does not count that far.
            NotGenuine: MAC or counter are wrong.
            WrongPinData: the MAC is right, and block or PRW are wrong.
            SeccosError: *members* are not laid out as the profile says.
            KeyMissing: a key that the payload or the profile names is not on the HSM token.
            ManifestRefused: such a key is not of the kind that the profile needs.
        """
        profile = self._profile
        try:
            # First: the counter that D1 was told is then itself more than a payload may hold.
            counter = profile.counter.expected(changes)
        except CounterExhaustedError:
            raise CounterExhausted from None
        sent = payload.parse(members, profile)
        keys = self._keys(sent, card, counter)
        outcome = verify(sent, card, counter, profile, keys)
        if outcome.verdict is Verdict.NOT_GENUINE:
            raise NotGenuine
        if outcome.verdict is Verdict.WRONG_PIN_DATA:
            raise WrongPinData
        return Accepted(outcome.pin, self._values(sent, counter))

    def _values(self, sent: Payload, counter: int) -> dict[ValueKind, Value]:
        values = {
            ValueKind.SCRIPT: Value.of(
                pinBlock=sent.block.hex().upper(),
                mac=sent.mac.hex().upper(),
                counter=counter,
                keyGeneration=self._generation(sent, "mac"),
            )
        }
        if self._profile.prw_source == "d1":
            generation = self._generation(sent, "prw")
            values[ValueKind.PRW] = prw_value(sent.prw, sent.random, counter, "d1", generation)
        return values

    def _keys(self, sent: Payload, card: CardData, counter: int) -> Keys:
        """Choose the three keys; session keys are made, used once and destroyed in the HSM token.

        Each is looked for when it is needed: an issuer that only checks MACs has no other.
        """
        steps = None
        if "emv_csk" in (self._profile.pin_block.session_key, self._profile.mac.session_key):
            steps = session_key.emv_csk(card, counter)
        return Keys(
            decrypt=partial(self._decrypt, self._generation(sent, "pin_block"), steps),
            prw=partial(self._prw, self._generation(sent, "prw")),
            mac=partial(self._mac, self._generation(sent, "mac"), steps),
        )

    def _decrypt(self, generation: int, steps: SessionKeySteps | None, block: bytes) -> bytes:
        label = self._label(KeyRole.SECCOS_PIN, generation)
        if steps is None or self._profile.pin_block.session_key == "none":
            return self._hsm_token.tdes_decrypt(label, block)
        with self._hsm_token.derived(label, steps.card_key.key, steps.session_key.key) as key:
            return key.decrypt(block)

    def _prw(self, generation: int, message: bytes) -> bytes:
        alg = self._profile.prw.alg
        if alg == "iso9797-alg3":
            return self._retail(KeyRole.SECCOS_PRW_RETAIL, generation, message)
        return self._cmac(KeyRole.SECCOS_PRW, generation, alg, message)

    def _mac(self, generation: int, steps: SessionKeySteps | None, message: bytes) -> bytes:
        mac = self._profile.mac
        if steps is not None and mac.session_key == "emv_csk":
            return self._session_mac(generation, steps, message)
        if mac.alg == "iso9797-alg3-pad2":
            return self._retail(KeyRole.SECCOS_MAC, generation, message)
        return self._cmac(KeyRole.SECCOS_MAC_CMAC, generation, mac.alg, message)

    def _session_mac(self, generation: int, steps: SessionKeySteps, message: bytes) -> bytes:
        label = self._label(KeyRole.SECCOS_MAC_MASTER, generation)
        derived = partial(self._hsm_token.derived, label, steps.card_key.key)
        with derived(steps.session_key.key) as key:
            if self._profile.mac.alg == "tdes-cmac":
                return key.mac(message)
            with derived(steps.session_key.left) as left:
                return retail_mac.compute(message, left.encrypt_cbc, key.encrypt_cbc)

    def _retail(self, role: KeyRole, generation: int, message: bytes) -> bytes:
        cbc = self._hsm_token.tdes_encrypt_cbc
        whole, left = self._label(role, generation), self._label(LEFT_ROLES[role], generation)
        return retail_mac.compute(message, partial(cbc, left), partial(cbc, whole))

    def _cmac(self, role: KeyRole, generation: int, alg: str, message: bytes) -> bytes:
        kind = CMAC_KINDS[alg]
        label = self._keyring.shared(role, self._issuer_id, generation, (kind,))
        if kind is KeyKind.AES_256:
            return self._hsm_token.mac(label, message)
        return self._hsm_token.tdes_mac(label, message)

    def _label(self, role: KeyRole, generation: int) -> KeyLabel:
        return self._keyring.shared(role, self._issuer_id, generation)

    def _generation(self, sent: Payload, section: Literal["pin_block", "prw", "mac"]) -> int:
        """Return the generation that D1 named, else the one of the profile."""
        if sent.key_generation is not None:
            return sent.key_generation
        profile = self._profile
        return {
            "pin_block": profile.pin_block.key_generation,
            "prw": profile.prw.key_generation,
            "mac": profile.mac.key_generation,
        }[section]
