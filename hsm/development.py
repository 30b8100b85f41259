"""What marks an HSM token, or a secret, that is for development and never for production."""

from typing import Final, Protocol

from crypto.secret import Secret
from hsm.errors import NotForProduction

SECRET_MARK: Final = "made-by-the-sandbox"  # noqa: S105 - a mark, no secret
"""A part of every secret that the sandbox makes for the service: it stays in every copy."""
SOFTWARE_TOKENS: Final = frozenset(("SoftHSM project", "Mozilla Foundation"))
"""``manufacturerID`` of ``CK_TOKEN_INFO`` as SoftHSM2 and NSS softoken give it."""
SOFTWARE_MODELS: Final = frozenset((("IBM", "Soft"),))
"""``manufacturerID`` and ``model`` of opencryptoki's token in software; others have a device."""


class Device(Protocol):
    """What tells a device from a library (:class:`hsm.pkcs11.device_info.DeviceInfo`)."""

    @property
    def manufacturer(self) -> str:
        """Who made it."""
        ...

    @property
    def model(self) -> str:
        """Which one it is."""
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


def is_software(device: Device) -> bool:
    """Tell whether an HSM token is a library and files, without a device."""
    by_model = (device.manufacturer, device.model) in SOFTWARE_MODELS
    return by_model or device.manufacturer in SOFTWARE_TOKENS


def refuse_token(device: Device) -> None:
    """Refuse an HSM token in software.

    Raises:
        NotForProduction: its manufacturer makes it so.
    """
    if is_software(device):
        raise NotForProduction(
            "HSM_MODULE is SoftHSM or another token in software: name the library of your HSM"
        )
