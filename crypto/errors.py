"""What can go wrong in :mod:`crypto`.

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
    ├── KeyBlockError
    │   └── KeyPurposeError
    └── JoseError
        ├── JweError
        ├── JwsError
        └── JwkError

An instance carries no message and no value: it is logged by its name.
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
    """A block of the source format may not become one of the target format."""


class WeakPinError(CryptoError):
    """The PIN is one that the policy calls easy to guess."""


class PinLengthError(CryptoError):
    """The PIN is shorter or longer than the policy allows."""


class CardDataError(CryptoError):
    """The PSN is not 0 to 99, or the expiry is not YYMM."""


class CounterExhaustedError(CryptoError):
    """The card has used up its change counter."""


class SeccosError(CryptoError):
    """The payload does not have the form that the profile asks for."""


class VerificationError(CryptoError):
    """The decimalisation table, key index, validation rule or offset is not one."""


class EmvError(CryptoError):
    """A value has a length or range that EMV does not allow."""


class KeyBlockError(CryptoError):
    """The text is not a key block we read, or it does not open."""


class KeyPurposeError(KeyBlockError):
    """The key block opens, but its key is for something else, or of another size."""


class JoseError(CryptoError):
    """The text is not strict base64url or not a strict JSON object."""


class JweError(JoseError):
    """The token is not a JWE we read, or it does not open."""


class JwsError(JoseError):
    """The token is not a JWS we read, or its signature is wrong."""


class JwkError(JoseError):
    """The key is not a public P-256 key for this use."""
