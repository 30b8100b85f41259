"""NSS softoken: a second PKCS#11 module, of other authors than SoftHSM2, for the contract suite."""

import os
import secrets
from pathlib import Path
from typing import Final

from hsm.pkcs11.module import LockingLibrary
from hsm.settings import HsmTokenSettings

#: Found by the loader, as any library is; Debian's package is libnss3.
MODULE: Final = Path("libsoftokn3.so")
LABEL: Final = "pins"


def make_softoken(directory: Path) -> HsmTokenSettings:
    """Make a database with a new user PIN in *directory*, which exists, and name the HSM token."""
    # For each attribute that it reads, the module derives a key of the user PIN by 10,000 rounds,
    # which are for PINs that people choose. This one is random.
    os.environ["NSS_MAX_MP_PBE_ITERATION_COUNT"] = "1"
    pin_file = directory / "user-pin"
    pin_file.touch(0o600)
    pin_file.write_text(f"{secrets.token_hex(16)}\n")
    parameters = (
        f"configdir='sql:{directory}' certPrefix='' keyPrefix='' secmod='secmod.db' "
        f"dbTokenDescription='{LABEL}' flags="
    )
    settings = HsmTokenSettings(
        module=MODULE, module_parameters=parameters, token_label=LABEL, pin_file=pin_file
    )
    library = LockingLibrary(str(MODULE), parameters)
    # The officer of a new database has an empty PIN, and it is only ever used for this.
    with library.get_token(token_label=LABEL).open(rw=True, so_pin="") as session:
        session.init_pin(pin_file.read_text().strip())
    return settings
