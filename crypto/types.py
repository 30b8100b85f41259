"""PIN, PAN and PIN block as types: a value is checked once, when it is made.

Also the types of the functions that callers pass in: ciphers, MACs and randomness.
"""

import re
from collections.abc import Callable
from typing import Final, Self

from crypto.errors import PanError, PinBlockError, PinError
from crypto.secret import Secret

PIN_DIGITS_MIN: Final = 4
PIN_DIGITS_MAX: Final = 12
PAN_DIGITS_MIN: Final = 8
PAN_DIGITS_MAX: Final = 19
PSN_MAX: Final = 99
PIN_BLOCK_BYTES: Final = 8
"""The size of a block of format 0, 1, 2 or 3."""

BlockCipher = Callable[[bytes], bytes]
"""Takes one AES block of 16 bytes and returns one; encryption or decryption, as its name says."""

BlocksCipher = Callable[[bytes], bytes]
"""Takes several AES blocks and returns as many, each enciphered or deciphered alone (ECB)."""

TdesEcb = Callable[[bytes], bytes]
"""Takes a multiple of 8 bytes and returns as many: TDES in ECB mode, encryption or decryption."""

TdesCbc = Callable[[bytes, bytes], bytes]
"""Takes an IV of 8 bytes and a multiple of 8 bytes, returns as many: TDES-CBC encryption."""

AesCbc = Callable[[bytes, bytes], bytes]
"""Takes an IV of 16 bytes and a multiple of 16 bytes, returns as many: AES-CBC encryption."""

Mac = Callable[[bytes], bytes]
"""Takes a message and returns its whole MAC: 16 bytes with AES, 8 with TDES."""

Random = Callable[[int], bytes]
"""Takes a number of bytes and returns so many uniformly random bytes."""

# Nothing is left of a text of digits when these are stripped from it. Not str.isdigit: it takes the
# digits of every script.
_DIGITS: Final = "0123456789"
_BLOCK_HEX: Final = re.compile("[0-9A-Fa-f]{16}")
_DIGIT_VALUES: Final = bytes.maketrans(b"0123456789", bytes(range(10)))
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
"""The sum of the digits of twice a digit."""

# Each class below sets and reveals its value itself. CPython is fast with an attribute in code that
# meets one class only: methods that all share would take a codec a tenth of its speed.


class Pin(Secret[str]):
    """A clear PIN: 4 to 12 ASCII digits (ISO 9564-1).

    >>> Pin("1234")
    Pin(***)

    Raises:
        PinError: the text is not 4 to 12 ASCII digits.
    """

    __slots__ = ()

    def __init__(self, text: str) -> None:
        if not PIN_DIGITS_MIN <= len(text) <= PIN_DIGITS_MAX or text.strip(_DIGITS):
            raise PinError
        self._value = text

    def reveal(self) -> str:
        """Return the clear digits."""
        return self._value


class Pan(Secret[str]):
    """A clear PAN: 8 to 19 ASCII digits, check digit included (ISO/IEC 7812-1).

    The check digit may be wrong, since some test PANs have a wrong one: see :attr:`luhn_valid`.

    >>> pan = Pan("4111111111111111")
    >>> pan, pan.last_four, pan.luhn_valid
    (Pan(***), '1111', True)

    Raises:
        PanError: the text is not 8 to 19 ASCII digits.
    """

    __slots__ = ()

    def __init__(self, text: str) -> None:
        if not PAN_DIGITS_MIN <= len(text) <= PAN_DIGITS_MAX or text.strip(_DIGITS):
            raise PanError
        self._value = text

    def reveal(self) -> str:
        """Return the clear digits."""
        return self._value

    @property
    def last_four(self) -> str:
        """The last four digits, which may be shown (PCI DSS 4.0, 3.4.1)."""
        return self.reveal()[-4:]

    @property
    def luhn_valid(self) -> bool:
        """Whether the last digit is the Luhn check digit (ISO/IEC 7812-1, annex B)."""
        digits = self.reveal().encode("ascii")
        plain, doubled = digits[-1::-2], digits[-2::-2]
        return (sum(plain.translate(_DIGIT_VALUES)) + sum(doubled.translate(_DOUBLED))) % 10 == 0


class PinBlock(Secret[bytes]):
    """A clear PIN block of format 0, 1, 2 or 3: 8 bytes, as secret as its PIN.

    Raises:
        PinBlockError: the value is not 8 bytes.
    """

    __slots__ = ()

    def __init__(self, value: bytes) -> None:
        if len(value) != PIN_BLOCK_BYTES:
            raise PinBlockError
        self._value = value

    def reveal(self) -> bytes:
        """Return the 8 clear bytes."""
        return self._value

    @classmethod
    def from_hex(cls, text: str) -> Self:
        """Read 16 hexadecimal digits, upper or lower case, without separators.

        >>> PinBlock.from_hex("241234FFFFFFFFFF")
        PinBlock(***)

        Raises:
            PinBlockError: the text is not 16 hexadecimal digits.
        """
        if not _BLOCK_HEX.fullmatch(text):
            raise PinBlockError
        return cls(bytes.fromhex(text))
