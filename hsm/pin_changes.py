"""A PIN change: the PIN, with the verification values that its issuer asks for, sealed.

It leaves the vault when a line of the vault's log tells of it.
"""

from typing import Final

from crypto.types import Pin
from hsm.key_budgets import KeyBudgets
from hsm.log.lines import Event
from hsm.log.writer import VaultLog
from hsm.manifest.model import Manifest
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.port import SealedChange
from hsm.seals import PinOf, Seals
from hsm.seccos import Accepted
from hsm.verification import ValueMaker

#: Whose verification values can be made can have those of every PIN made.
ANY_PIN: Final = Pin("0000")


class PinChanges:
    """Seals PIN changes.

    Every method may raise ``VaultUnavailable``: the HSM token does not answer, or lacks a key; and

    * ``ValueNotPossible``: a value that is asked for cannot be made of this PIN or this PAN;
    * ``CounterExhausted``: the SECCOS profile does not count that far;
    * ``ManifestRefused``: a key that the manifest names is of another kind, or a PRW needs a SECCOS
      profile and there is none.
    """

    def __init__(
        self,
        hsm_token: HsmToken,
        keyring: Keyring,
        seals: Seals,
        key_budgets: KeyBudgets,
        log: VaultLog,
    ) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._seals = seals
        self._key_budgets = key_budgets
        self._log = log

    def seal(
        self,
        taken: Accepted,
        manifest: Manifest,
        owner: PinOf,
        event: Event,
        *,
        keep_pin: bool = True,
    ) -> SealedChange:
        """Make the PIN verification values, and seal everything for the change of *owner*.

        Args:
            taken: the PIN, and the values that came with it.
            manifest: that of the issuer.
            owner: whose PIN it is.
            event: what the log is to tell.
            keep_pin: whether the PIN itself is sealed too.
        """
        values = self._value_maker(manifest).complete(
            taken.values, taken.pin, owner.record.card_data, owner.changes_before
        )
        sealed_pin = None
        if keep_pin and taken.pin is not None:
            sealed_pin = self._seals.seal_pin(taken.pin, owner.record, owner.card, owner.counter)
        sealed_values = {
            kind: self._seals.seal_value(value, kind, owner) for kind, value in values.items()
        }
        script_due = manifest.scripts is not None and sealed_pin is not None
        receipt = self._log.append(event, durable=False)
        return SealedChange(sealed_pin, sealed_values, receipt, script_due)

    def require_possible(self, manifest: Manifest, owner: PinOf) -> None:
        """Refuse a change that no PIN of this card can be given."""
        self._value_maker(manifest).complete(
            {}, ANY_PIN, owner.record.card_data, owner.changes_before
        )

    def _value_maker(self, manifest: Manifest) -> ValueMaker:
        return ValueMaker(
            self._hsm_token,
            self._keyring,
            manifest.issuer_id,
            manifest.verification,
            manifest.seccos,
            self._key_budgets.may_encipher(manifest.limits),
        )
