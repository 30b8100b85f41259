"""The errors of :mod:`crypto`.

::

    CryptoError
    ├── PinError
    ├── PanError
    ├── PinBlockError
    ├── TranslationError
    ├── WeakPinError
    ├── PinLengthError
    ├── CardDataError
    ├── CounterExhaustedError
    ├── SeccosError
    ├── VerificationError
    ├── EmvError
    ├── RandomnessError
    ├── DeviceKeyError
    ├── KeyBlockError
    │   ├── KeyPurposeError
    │   └── KeyStrengthError
    └── JoseError
        ├── JweError
        ├── JwsError
        └── JwkError

An instance has no message and no value. A log shows the name of its class.
"""


class CryptoError(Exception):
    """An input was refused."""

    def __init__(self) -> None:
        super().__init__()


class PinError(CryptoError):
    """The text is not 4 to 12 ASCII digits."""


class PanError(CryptoError):
    """The text is not 8 to 19 ASCII digits."""


class PinBlockError(CryptoError):
    """The bytes are not a PIN block of this format for this PAN."""


class TranslationError(CryptoError):
    """A PIN block of the source format may not be translated into the target format."""


class WeakPinError(CryptoError):
    """The PIN is one that the issuer's policy calls easy to guess."""


class PinLengthError(CryptoError):
    """The PIN is shorter or longer than the issuer's policy allows."""


class CardDataError(CryptoError):
    """The PSN is not 0 to 99, or the expiry date is not YYMM."""


class CounterExhaustedError(CryptoError):
    """The card's change counter has reached its highest value."""


class SeccosError(CryptoError):
    """The SECCOS payload does not have the form that the profile asks for."""


class VerificationError(CryptoError):
    """A decimalisation table, PVV key index, validation template or offset is not valid."""


class EmvError(CryptoError):
    """A value has a length, or is outside a range, that EMV does not allow."""


class RandomnessError(CryptoError):
    """What should be random gives nothing that a PIN can be made of."""


class DeviceKeyError(CryptoError):
    """The bytes are not the public RSA key of a device."""


class KeyBlockError(CryptoError):
    """The text is not a key block of version B or D, or it does not open under this key."""


class KeyPurposeError(KeyBlockError):
    """The key block opens, but its key is for another purpose or has another size."""


class KeyStrengthError(KeyBlockError):
    """The key block opens, but its key is stronger than the key that protects the block."""


class JoseError(CryptoError):
    """The text is not strict base64url or not a strict JSON object."""


class JweError(JoseError):
    """The text is not a JWE of the form that is read here, or it does not open."""


class JwsError(JoseError):
    """The text is not a JWS of the form that is read here, or its signature is wrong."""


class JwkError(JoseError):
    """The key is not a public key of a kind, or for a use, that is read here."""
