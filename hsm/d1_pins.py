"""The PINs in the JWEs that D1 sends: as ISO-0, or as SECCOS."""

from typing import Final

from crypto.errors import CryptoError, PinLengthError, WeakPinError
from crypto.weak_pins import check
from hsm.errors import PinRejected, TypeNotOffered, WeakPinRefused, WrongPinData
from hsm.jose_keys import JoseKeys
from hsm.key_budgets import KeyBudgets
from hsm.manifest.model import Manifest
from hsm.pin_changes import PinChanges
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyRole
from hsm.port import PinBlockType
from hsm.seals import PinOf
from hsm.seccos import Accepted, SeccosReader
from hsm.zone_blocks import ZoneBlocks

#: The PIN is one, and the issuer does not want it.
POLICY_ERRORS: Final = (PinLengthError, WeakPinError)


class D1Pins:
    """Takes PINs out of D1's JWEs."""

    def __init__(
        self,
        hsm_token: HsmToken,
        keyring: Keyring,
        jose_keys: JoseKeys,
        key_budgets: KeyBudgets,
        pin_changes: PinChanges,
    ) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._jose_keys = jose_keys
        self._key_budgets = key_budgets
        self._pin_changes = pin_changes

    def read(
        self, jwe: str, block_type: PinBlockType, manifest: Manifest, owner: PinOf
    ) -> Accepted:
        """Take a PIN out of a JWE: a try, which is to be counted when it fails.

        Args:
            jwe: the JWE, compact.
            block_type: the form of the PIN in it.
            manifest: that of the issuer.
            owner: whose PIN it is to be, after which change.

        Raises:
            TypeNotOffered: the manifest has no SECCOS.
            PinRejected: the JWE does not open, or what is in it is laid out in another way.
            WrongPinData: the block is none for the card's PAN; with SECCOS, block or PRW are wrong.
            NotGenuine: MAC or counter of a SECCOS payload are wrong.
            WeakPinRefused: the policy forbids the PIN.
            ValueNotPossible, CounterExhausted: no PIN of this card can be taken in this form.
            VaultUnavailable: the HSM token does not answer, or lacks a key.
        """
        reader = None if block_type is PinBlockType.ISO0 else self._seccos_reader(manifest)
        data, policy = owner.record.card_data, manifest.policy.for_d1
        try:
            members = self._jose_keys.open_jwe(
                jwe, KeyRole.D1, manifest.wire.jwe.extra, manifest.wire.jwe.own_kids
            )
        except CryptoError:
            raise PinRejected from None
        try:
            if reader is None:
                taken = Accepted(self.blocks(manifest).read(members, data.pan, policy), {})
            else:
                taken = reader.read(members, data, owner.changes_before)
            if taken.pin is not None:
                check(taken.pin, policy)
        except CryptoError as error:
            if reader is None:
                # What no PIN of this card can get is said of a wrong block too: said of right ones
                # only, it would tell that the PAN was guessed.
                self._pin_changes.require_possible(manifest, owner)
            if isinstance(error, POLICY_ERRORS):
                raise WeakPinRefused from None
            raise (WrongPinData if reader is None else PinRejected) from None
        return taken

    def blocks(self, manifest: Manifest) -> ZoneBlocks:
        """Return what reads and writes the ISO-0 blocks of an issuer."""
        return ZoneBlocks(
            self._hsm_token,
            self._keyring,
            manifest.issuer_id,
            manifest.wire.iso0,
            self._key_budgets.may_encipher(manifest.limits),
        )

    def _seccos_reader(self, manifest: Manifest) -> SeccosReader:
        if manifest.seccos is None:
            raise TypeNotOffered
        return SeccosReader(self._hsm_token, self._keyring, manifest.issuer_id, manifest.seccos)
