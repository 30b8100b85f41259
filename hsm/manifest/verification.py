"""PIN verification values: which of them an issuer wants of every PIN, and with which keys."""

from functools import cached_property
from typing import Annotated, Final

from pydantic import Field, field_validator

from crypto.errors import PanError, VerificationError
from crypto.types import PAN_DIGITS_MAX, Pan
from crypto.verification.ibm3624 import DecimalisationTable, ValidationTemplate
from crypto.verification.pvv import KeyIndex
from hsm.manifest.body import Body

Generation = Annotated[int, Field(ge=1, le=999_999)]
#: A template for which it is too short would have every PIN of every card refused.
LONGEST_PAN: Final = Pan("0" * PAN_DIGITS_MAX)


class PvvBody(Body):
    """The PVV of Visa: the index of the key at the authorisation host, and its generation here."""

    key_index: Annotated[int, Field(ge=1, le=6)]
    """Of the PVV key at the authorisation host, PVKI."""
    key_generation: Generation = 1
    """Of the issuer's key of role ``pvk``."""

    @cached_property
    def index(self) -> KeyIndex:
        """The index as :mod:`crypto.verification.pvv` takes it."""
        return KeyIndex(self.key_index)


class OffsetBody(Body):
    """The IBM 3624 offset.

    *table* gives a digit for each nibble 0 to F. *validation_data* is a template of the 16 digits
    that are enciphered (:class:`crypto.verification.ibm3624.ValidationTemplate`).
    """

    table: str
    """The decimalisation table: 16 digits."""
    validation_data: str = "{left:0:16}"
    """As in ``{left:0:16}``: which digits of the PAN are enciphered."""
    key_generation: Generation = 1
    """Of the issuer's key of role ``pvk-3624``."""

    @field_validator("table")
    @classmethod
    def _is_a_table(cls, table: str) -> str:
        try:
            DecimalisationTable(table)
        except VerificationError:
            raise ValueError("16 digits, at least 8 of them different") from None
        return table

    @field_validator("validation_data")
    @classmethod
    def _is_a_template(cls, text: str) -> str:
        try:
            ValidationTemplate(text).apply(LONGEST_PAN)
        except VerificationError:
            raise ValueError("not a template of 16 digits") from None
        except PanError:
            raise ValueError("no PAN has so many digits") from None
        return text

    @cached_property
    def decimalisation(self) -> DecimalisationTable:
        """The table as :mod:`crypto.verification.ibm3624` takes it."""
        return DecimalisationTable(self.table)

    @cached_property
    def template(self) -> ValidationTemplate:
        """The template as :mod:`crypto.verification.ibm3624` takes it."""
        return ValidationTemplate(self.validation_data)


class VerificationBody(Body):
    """The PIN verification values that are made of every PIN; by default none."""

    pvv: PvvBody | None = None
    """The PVV, and its key; None: it is not made."""
    offset_3624: OffsetBody | None = None
    """The IBM 3624 offset, and its key; None: it is not made."""
    prw: bool = False
    """Whether a PRW is asked for. The SECCOS profile gives its layout, and says whether D1 or the
    issuer makes it. Where D1 makes it, a PIN that does not come as SECCOS is refused."""
    prw_key_generation: Generation = 1
    """Of the issuer's key of role ``prw``."""
