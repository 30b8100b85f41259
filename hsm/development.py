"""What marks an HSM token, or a secret, that is for development and never for production."""

from typing import Final, Protocol

from crypto.secret import Secret
from hsm.errors import NotForProduction

SECRET_MARK: Final = "made-by-the-sandbox"  # noqa: S105 - a mark, no secret
"""A part of every secret that the sandbox makes for the service: it stays in every copy."""
SOFTWARE_TOKENS: Final = frozenset(("SoftHSM project", "Mozilla Foundation"))
"""``manufacturerID`` of ``CK_TOKEN_INFO`` as SoftHSM2 and NSS softoken give it."""


class TokenInfo(Protocol):
    """Of ``CK_TOKEN_INFO`` (PKCS#11 2.40, section 3.2) what tells a device from a library."""

    @property
    def manufacturer_id(self) -> str:
        """Who made it: at most 32 characters."""
        ...


def refuse_secret(pin: Secret[str]) -> None:
    """Refuse a user PIN that the sandbox made.

    Raises:
        NotForProduction: it has the sandbox's mark.
    """
    if SECRET_MARK in pin.reveal():
        raise NotForProduction(
            "HSM_PIN_FILE holds a PIN that the sandbox made: name the file of your HSM's user PIN"
        )


def refuse_token(info: TokenInfo) -> None:
    """Refuse an HSM token that is a library and files, without a device.

    Raises:
        NotForProduction: its manufacturer makes it in software.
    """
    if info.manufacturer_id.strip(" \0") in SOFTWARE_TOKENS:
        raise NotForProduction(
            "HSM_MODULE is SoftHSM or another token in software: name the library of your HSM"
        )
