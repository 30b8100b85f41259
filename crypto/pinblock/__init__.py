"""PIN blocks of ISO 9564-1: one module for each format, one error for every bad block."""

from enum import Enum


class PinBlockFormat(Enum):
    """A PIN block format; its value is the control nibble, the first nibble of the PIN field."""

    ISO0 = 0
    ISO1 = 1
    ISO2 = 2
    ISO3 = 3
    ISO4 = 4
