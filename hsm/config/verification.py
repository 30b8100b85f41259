"""PIN verification values: which of them an issuer wants of every PIN, and with which keys."""

from functools import cached_property
from typing import Annotated

from pydantic import Field, field_validator

from crypto.errors import VerificationError
from crypto.verification.ibm3624 import DecimalisationTable, ValidationRule
from crypto.verification.pvv import KeyIndex
from hsm.config.body import Body

Generation = Annotated[int, Field(ge=1, le=999_999)]


class PvvBody(Body):
    """The PVV of Visa: the index of the key at the authorisation host, and its generation here."""

    key_index: Annotated[int, Field(ge=1, le=6)]
    key_generation: Generation = 1

    @cached_property
    def index(self) -> KeyIndex:
        """The index as :mod:`crypto.verification.pvv` takes it."""
        return KeyIndex(self.key_index)


class OffsetBody(Body):
    """The IBM 3624 offset.

    *table* gives a digit for each nibble 0 to F. *start*, *length* and *pad* say which digits of
    the PAN are enciphered, and what fills them up to 16.
    """

    table: str
    start: Annotated[int, Field(ge=0, le=18)] = 0
    length: Annotated[int, Field(ge=1, le=16)] = 16
    pad: Annotated[str, Field(pattern="^[0-9A-F]$")] = "F"
    key_generation: Generation = 1

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, table: str) -> str:
        try:
            DecimalisationTable(table)
        except VerificationError:
            raise ValueError("16 digits, at least 8 of them different") from None
        return table

    @cached_property
    def decimalisation(self) -> DecimalisationTable:
        """The table as :mod:`crypto.verification.ibm3624` takes it."""
        return DecimalisationTable(self.table)

    @cached_property
    def rule(self) -> ValidationRule:
        """Which digits are enciphered, as :mod:`crypto.verification.ibm3624` takes it."""
        return ValidationRule(self.start, self.length, self.pad)


class VerificationBody(Body):
    """The PIN verification values that are made of every PIN; by default none."""

    pvv: PvvBody | None = None
    offset_3624: OffsetBody | None = None
    prw: bool = False
    """Whether a PRW is asked for. The SECCOS profile gives its layout, and says whether D1 or the
    issuer makes it. Where D1 makes it, a PIN that does not come as SECCOS is refused."""
    prw_key_generation: Generation = 1
