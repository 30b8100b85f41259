"""``python -m tests.attacks.serving_login FILE``: tries to open a key block that was captured.

It is logged in at the HSM token that serves, as a vault that was taken over is, and uses what that
login may use. It prints the KCV of the key when it has it in clear.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from crypto import keyblock
from crypto.errors import KeyBlockError
from hsm.errors import HsmError
from hsm.pkcs11 import shared_keys
from hsm.pkcs11.keys import AES_KINDS, KEY_BYTES, KeyRole, Usage
from hsm.pkcs11.shared_keys import PURPOSES, ClearKey
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings

ISSUER, ROLE = "testbank01", KeyRole.PVK


def opened(hsm_token: Pkcs11Token, text: str) -> Iterator[ClearKey]:
    """Open the block as a ceremony does, and by every key that makes MACs."""
    with suppress(HsmError):
        yield shared_keys.open_block(hsm_token, ROLE, ISSUER, text)
    (purpose,) = PURPOSES[ROLE]
    for label in hsm_token.labels():
        if label.role.usage is not Usage.MAC:
            continue
        kind = hsm_token.kind(label)
        mac = hsm_token.mac if kind in AES_KINDS else hsm_token.tdes_mac
        with suppress(KeyBlockError, HsmError):
            key = keyblock.open_block(text, purpose, partial(mac, label), KEY_BYTES[kind]).key
            yield ClearKey(shared_keys.kind_of(purpose.algorithm, len(key.reveal())), key)


def main(file: Path) -> None:
    """Try, and say what was found."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings())
    for key in opened(hsm_token, file.read_text().strip()):
        sys.stdout.write(f"opened: {key.kcv}\n")
        return
    sys.stdout.write("not opened\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
