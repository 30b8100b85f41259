"""PIN verification values, made with keys of the HSM token: PVV, 3624 offset, the issuer's PRW.

Whoever has one of them and may try PINs against it finds the PIN. So each leaves the vault either
sealed or encrypted to the authorisation host. A value is JSON::

    pvv           {"pvv": "…", "keyIndex": 1, "keyGeneration": 1}
    offset-3624   {"offset": "…", "keyGeneration": 1}
    prw           {"prw": "…", "random": "…", "counter": 7, "source": "d1", "keyGeneration": 1}
    script        {"pinBlock": "…", "mac": "…", "counter": 7, "keyGeneration": 1}

``source`` is ``d1`` or ``issuer``; bytes are hexadecimal, upper case.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

from crypto.errors import CounterExhaustedError, PanError
from crypto.seccos import prw
from crypto.seccos.card import CardData
from crypto.seccos.profile import SeccosProfile
from crypto.secret import Secret
from crypto.types import Pan, Pin
from crypto.verification import ibm3624, pvv
from hsm.errors import CounterExhausted, ManifestRefused, ValueNotPossible
from hsm.manifest.verification import OffsetBody, PvvBody, VerificationBody
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole
from hsm.port import ValueKind


class Value(Secret[bytes]):
    """A PIN verification value as JSON, with one of the layouts above."""

    __slots__ = ()

    @classmethod
    def of(cls, **members: str | int) -> Self:
        """Write the members as JSON without white space.

        >>> Value.of(pvv="5812", keyIndex=1).reveal()
        b'{"pvv":"5812","keyIndex":1}'
        """
        return cls(json.dumps(members, separators=(",", ":")).encode())


class ValueMaker:
    """Makes the PIN verification values that one issuer asks for."""

    def __init__(
        self,
        hsm_token: HsmToken,
        keyring: Keyring,
        issuer_id: str,
        asked: VerificationBody,
        seccos: SeccosProfile | None,
        may_encipher: Callable[[KeyLabel], None],
    ) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._issuer_id = issuer_id
        self._asked = asked
        self._seccos = seccos
        self._may_encipher = may_encipher

    def complete(
        self, sent: Mapping[ValueKind, Value], pin: Pin | None, card: CardData, changes: int
    ) -> dict[ValueKind, Value]:
        """Return the values that D1 sent, and with them all others that are asked for.

        Args:
            sent: D1's own values; empty where the PIN came as ISO-0.
            pin: the PIN, or None where the SECCOS profile checks the MAC only.
            card: the card of the PIN.
            changes: how often the PIN was changed before.

        Raises:
            ValueNotPossible: a value cannot be made of this PIN, this PAN, or by the issuer.
            CounterExhausted: the SECCOS profile does not count that far.
            KeyMissing: a key that the manifest names is not on the HSM token.
            KeyUsedUp: such a key may encipher no more.
            ManifestRefused: such a key is of another kind, or a PRW needs a SECCOS profile and
                there is none.
        """
        asked, values = self._asked, dict(sent)
        ours = ValueKind.SCRIPT in sent and self._issuer_makes_prw()
        missing = (asked.prw or ours) and ValueKind.PRW not in values
        if pin is None:
            if asked.pvv or asked.offset_3624 or missing:
                raise ValueNotPossible
            return values
        try:
            if asked.pvv is not None:
                values[ValueKind.PVV] = self._pvv(pin, card.pan, asked.pvv)
            if asked.offset_3624 is not None:
                values[ValueKind.OFFSET_3624] = self._offset(pin, card.pan, asked.offset_3624)
        except PanError:
            raise ValueNotPossible from None
        if missing:
            values[ValueKind.PRW] = self._prw(pin, card, changes)
        return values

    def _issuer_makes_prw(self) -> bool:
        return self._seccos is not None and self._seccos.prw_source == "issuer"

    def _prw(self, pin: Pin, card: CardData, changes: int) -> Value:
        """Make the issuer's own PRW: laid out as the profile says, always an AES-CMAC."""
        profile, generation = self._seccos, self._asked.prw_key_generation
        if profile is None:
            raise ManifestRefused("a PRW is asked for and there is no SECCOS profile")
        if profile.prw_source == "d1":
            raise ValueNotPossible
        try:
            counter = profile.counter.expected(changes)
        except CounterExhaustedError:
            raise CounterExhausted from None
        label = self._keyring.shared(KeyRole.PRW, self._issuer_id, generation, (KeyKind.AES_256,))
        size_bytes = profile.prw.random_bytes
        random = self._hsm_token.random(size_bytes) if size_bytes else b""
        made = prw.compute(pin, card, counter, random, profile, partial(self._hsm_token.mac, label))
        return prw_value(made, random, counter, "issuer", generation)

    def _pvv(self, pin: Pin, pan: Pan, body: PvvBody) -> Value:
        label = self._keyring.shared(KeyRole.PVK, self._issuer_id, body.key_generation)
        self._may_encipher(label)
        made = pvv.compute(pin, pan, body.index, partial(self._hsm_token.tdes_encrypt, label))
        return Value.of(
            pvv=made.reveal(), keyIndex=body.key_index, keyGeneration=body.key_generation
        )

    def _offset(self, pin: Pin, pan: Pan, body: OffsetBody) -> Value:
        label = self._keyring.shared(KeyRole.PVK_3624, self._issuer_id, body.key_generation)
        self._may_encipher(label)
        encrypt = partial(self._hsm_token.tdes_encrypt, label)
        made = ibm3624.offset(pin, pan, body.template, body.decimalisation, encrypt)
        return Value.of(offset=made.reveal(), keyGeneration=body.key_generation)


def prw_value(made: bytes, random: bytes, counter: int, source: str, generation: int) -> Value:
    """Lay out a PRW; *source* is ``d1`` or ``issuer``."""
    return Value.of(
        prw=made.hex().upper(),
        random=random.hex().upper(),
        counter=counter,
        source=source,
        keyGeneration=generation,
    )
