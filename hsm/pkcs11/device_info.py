"""What a PKCS#11 module says of an HSM token."""

from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """Of ``CK_TOKEN_INFO`` (PKCS#11 2.40, section 3.2) what names the device."""

    label: str
    serial: str
    manufacturer: str
    model: str

    @classmethod
    def of(cls, token: Any) -> Self:  # noqa: ANN401 - the binding has no types
        """Read it from the binding's token; what is no UTF-8 is replaced."""
        return cls(
            *(_text(token.label), _text(token.serial)),
            *(_text(token.manufacturer_id), _text(token.model)),
        )


def _text(value: str | bytes) -> str:
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    return text.strip(" \0")
