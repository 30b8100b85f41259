"""PIN blocks of ISO 9564-1, one codec a module; all decoders fail in one way."""

from enum import Enum


class PinBlockFormat(Enum):
    """A format, by the control nibble that opens its PIN field."""

    ISO0 = 0
    ISO1 = 1
    ISO2 = 2
    ISO3 = 3
    ISO4 = 4
