"""The command that puts a new PIN onto a chip card, made with keys that stay in the HSM token.

Sources: EMV 4.3, Book 2, 9 and A1; Book 3, 6.5.10. For each of the two keys, SMC and SMI, in the
HSM token::

    card key       under the issuer's master key, from PAN and PSN, option A or B
    session key    under the card key, from the ARQC

The PIN leaves as a format-2 block that the session key enciphered, which the card alone can undo
(PCI PIN Security 3.1, requirement 3-3: format 2 goes to the chip and nowhere else).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from crypto import retail_mac
from crypto.emv import key_derivation, scripts
from crypto.emv.key_derivation import DerivationData
from crypto.emv.scripts import PinChange
from crypto.pinblock import PinBlockFormat, iso2
from crypto.seccos.card import CardData
from crypto.secret import Secret
from crypto.translation import permit
from crypto.types import Pan, Pin, TdesCbc
from hsm.counts import Counts, Quota
from hsm.manifest.scripts import ScriptsBody
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import CardRef, ChipTransaction

QUOTA: Final = "script"
REVERSAL_QUOTA: Final = "script-reversal"
REVERSALS_CARD_DAY_MAX: Final = 10
"""Each brings back the PIN of one change before: without an end, whoever kept old seals of a card
could go on from each to the next, until any of them is the newest."""
CARD_KEYS: Final[Mapping[str, Callable[[Pan, int], DerivationData]]] = {
    "a": key_derivation.card_key_a,
    "b": key_derivation.card_key_b,
}
ENCIPHER: Final[Mapping[str, Callable[[Secret[bytes], TdesCbc], bytes]]] = {
    "mastercard": scripts.encipher_mastercard,
    "ccd": scripts.encipher_ccd,
}


class Scripts:
    """Builds the scripts of all issuers."""

    def __init__(self, hsm_token: HsmToken, keyring: Keyring, counts: Counts) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._counts = counts

    def count(self, body: ScriptsBody, card: CardRef) -> None:
        """Count a script before it is built.

        Of one transaction two scripts are the same if, and only if, their PINs are: who may have
        any number built, and may set PINs, finds the PIN of the card by trying.

        Raises:
            LimitReached: as many were built for the card today as may be.
            CountsUnavailable: it could not be counted.
        """
        today, most = self._counts.today(), body.builds_card_day_max
        self._counts.hand_out([Quota(today, card.issuer_id, QUOTA, card.card_id, most)])

    def count_reversal(self, card: CardRef) -> None:
        """Count a reversal before it is made.

        Raises:
            LimitReached: :data:`REVERSALS_CARD_DAY_MAX` were made for the card today.
            CountsUnavailable: it could not be counted.
        """
        most = REVERSALS_CARD_DAY_MAX
        quota = Quota(self._counts.today(), card.issuer_id, REVERSAL_QUOTA, card.card_id, most)
        self._counts.hand_out([quota])

    def keys(
        self, issuer_id: str, body: ScriptsBody, may_encipher: Callable[[KeyLabel], None]
    ) -> tuple[KeyLabel, KeyLabel]:
        """Find SMC and SMI; nothing is counted when they cannot be used.

        Raises:
            KeyMissing: a key that the manifest names is not on the HSM token.
            KeyUsedUp: such a key may encipher no more.
            ManifestRefused: such a key is of another kind.
        """
        smc = self._keyring.shared(KeyRole.SMC, issuer_id, body.smc_generation)
        smi = self._keyring.shared(KeyRole.SMI, issuer_id, body.smi_generation)
        for master in (smc, smi):
            may_encipher(master)
        return smc, smi

    def pin_change(
        self,
        pin: Pin,
        card: CardData,
        body: ScriptsBody,
        keys: tuple[KeyLabel, KeyLabel],
        transaction: ChipTransaction,
    ) -> bytes:
        """Return the command PIN CHANGE/UNBLOCK that sets *pin* within *transaction*.

        Args:
            pin: the PIN.
            card: whose master keys are derived.
            body: what the manifest says of scripts.
            keys: SMC and SMI, as :meth:`keys` finds them.
            transaction: what the chip sent.
        """
        permit(PinBlockFormat.ISO4, PinBlockFormat.ISO2, same_pan=True, for_card_script=True)
        card_key = CARD_KEYS[body.card_key](card.pan, card.psn)
        session = key_derivation.session_key(transaction.arqc)
        smc, smi = keys
        with self._hsm_token.derived(smc, card_key.key, session.key) as key:
            data = ENCIPHER[body.scheme](iso2.encode(pin), key.encrypt_cbc)
        derived = partial(self._hsm_token.derived, smi, card_key.key)
        with derived(session.key) as whole, derived(session.left) as left:
            return scripts.pin_change_command(
                PinChange.CHANGE,
                data,
                lambda message: retail_mac.compute(message, left.encrypt_cbc, whole.encrypt_cbc),
                transaction=_covered(body, transaction),
                mac_bytes=body.mac_bytes,
            )


def _covered(body: ScriptsBody, transaction: ChipTransaction) -> bytes:
    return transaction.atc + transaction.arqc if body.mac_transaction == "atc-arqc" else b""
