"""What marks the certificates and secrets of the sandbox, so that they never serve in earnest."""

import base64
import binascii
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cms.settings import Settings
from hsm.development import SECRET_MARK

CA_NAME: Final = "Development CA, not for production"
"""Common name of the sandbox's certificate authority, in each certificate that it issues."""
PEM_CERTIFICATE: Final = re.compile(
    rb"-----BEGIN [A-Z0-9 ]*CERTIFICATE-----(.*?)-----END ", re.DOTALL
)
CERTIFICATE_FILES: Final = (
    "d1_certificate_file",
    "d1_client_ca_file",
    "cardholder_certificate_file",
    "us_ca_file",
    "traces_ca_file",
)
SECRET_FILES: Final = ("database_url_file", "control_token_key_file")


class DevelopmentSetting(Exception):
    """A setting names what the sandbox made; the message names the setting."""


def refuse(settings: Settings) -> None:
    """Refuse settings that name a certificate or a secret of the sandbox.

    Raises:
        DevelopmentSetting: one does.
        OSError: a file cannot be read.
    """
    for name in CERTIFICATE_FILES:
        path: Path | None = getattr(settings, name)
        if path is not None and any(CA_NAME.encode() in der for der in _certificates(path)):
            raise DevelopmentSetting(
                f"CMS_{name.upper()} holds a certificate of the sandbox's development CA: "
                "name one of your own CA"
            )
    for name in SECRET_FILES:
        path = getattr(settings, name)
        if path is not None and SECRET_MARK.encode() in path.read_bytes():
            raise DevelopmentSetting(
                f"CMS_{name.upper()} holds a secret that the sandbox made: name one of your own"
            )


def _certificates(path: Path) -> Iterator[bytes]:
    """Yield each certificate of a PEM file as DER.

    It is not parsed: OpenSSL takes certificates that a stricter parser refuses.
    """
    for block in PEM_CERTIFICATE.finditer(path.read_bytes()):
        try:
            yield base64.b64decode(block[1])
        except binascii.Error:
            continue  # OpenSSL does not load it either
