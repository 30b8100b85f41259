"""The format-1 blocks that an issuer's server and a cardholder's device send and get.

::

    pre-shared key   8 bytes, TDES in ECB mode: a ZPK of the HSM token that the server has too
    PKI              8 bytes, TDES in ECB mode: a TZPK, 16 bytes, made for one control token

Neither block is bound to a card: the vault binds it, by what was asked for. Source: Enfuce Card PIN
API, and ISO 9564-1:2017, 9.3, for the format.

A TZPK is of random bytes of the HSM token, with odd parity. It goes to the device enciphered to the
device's own key, so it has to be in this process's memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

from crypto.device_key import encipher, parse
from crypto.errors import CryptoError, DeviceKeyError, PinLengthError, WeakPinError
from crypto.pinblock import PinBlockFormat, iso1
from crypto.secret import Secret
from crypto.software import tdes_decrypt_ecb, tdes_encrypt_ecb
from crypto.translation import permit
from crypto.types import PIN_BLOCK_BYTES, Pin, PinBlock
from crypto.weak_pins import PinPolicy, check
from hsm.errors import PageKeyRejected, WeakPinRefused, WrongPinData
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import KeyKind, KeyLabel
from hsm.pkcs11.shared_keys import make_key


@dataclass(frozen=True, slots=True)
class Iso1Blocks:
    """Writes and reads the blocks.

    Every method may raise ``VaultUnavailable``: the HSM token does not answer, or lacks the key.
    """

    hsm_token: HsmToken

    def under_zpk(self, pin: Pin, label: KeyLabel) -> bytes:
        """Write a block under a ZPK, another each time."""
        return self.hsm_token.tdes_encrypt(label, self._clear(pin))

    def from_zpk(self, block: bytes, label: KeyLabel, policy: PinPolicy) -> Pin:
        """Read a block under a ZPK.

        Raises:
            WrongPinData: it is none of format 1 under this key.
            WeakPinRefused: *policy* forbids its PIN.
        """
        return _pin(block, lambda data: self.hsm_token.tdes_decrypt(label, data), policy)

    def new_tzpk(self) -> Secret[bytes]:
        """Make a TZPK."""
        return make_key(self.hsm_token, KeyKind.TDES_2KEY).value

    def under_tzpk(self, pin: Pin, tzpk: Secret[bytes]) -> bytes:
        """Write a block under a TZPK."""
        return tdes_encrypt_ecb(tzpk, self._clear(pin))

    def _clear(self, pin: Pin) -> bytes:
        permit(PinBlockFormat.ISO4, PinBlockFormat.ISO1, same_pan=True, for_cardholder=True)
        return iso1.encode(pin, self.hsm_token.random).reveal()


def from_tzpk(block: bytes, tzpk: Secret[bytes], policy: PinPolicy) -> Pin:
    """Read a block under a TZPK.

    Raises:
        WrongPinData: it is none of format 1 under this key.
        WeakPinRefused: *policy* forbids its PIN.
    """
    return _pin(block, lambda data: tdes_decrypt_ecb(tzpk, data), policy)


def to_device(tzpk: Secret[bytes], public_key: bytes) -> bytes:
    """Encipher a TZPK to a device's key, DER (:mod:`crypto.device_key`).

    None of our own keys is RSA: a device cannot name one of them.

    Raises:
        PageKeyRejected: *public_key* is none that a device may have.
    """
    try:
        return encipher(parse(public_key), tzpk)
    except DeviceKeyError:
        raise PageKeyRejected from None


def _pin(block: bytes, decipher: Callable[[bytes], bytes], policy: PinPolicy) -> Pin:
    permit(PinBlockFormat.ISO1, PinBlockFormat.ISO4, same_pan=False)
    if len(block) != PIN_BLOCK_BYTES:
        raise WrongPinData
    try:
        pin = iso1.decode(PinBlock(decipher(block)))
        check(pin, policy)
    except (PinLengthError, WeakPinError):
        raise WeakPinRefused from None
    except CryptoError:
        raise WrongPinData from None
    return pin
