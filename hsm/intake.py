"""A PAN typed at a prompt becomes a JWE to the vault's intake key before anything returns."""

import json
import os
from collections.abc import Mapping
from getpass import getpass

from cryptography.hazmat.primitives.asymmetric import ec

from crypto.errors import CryptoError
from crypto.jose import jwe
from crypto.jose.jwk import parse_public
from crypto.types import Pan
from hsm.errors import PanRejected


def prompt_pan(intake_jwk: Mapping[str, object]) -> str:
    """Ask for a PAN without showing it and return it as a compact JWE.

    Raises:
        PanRejected: what was typed is not a PAN.
    """
    try:
        pan = Pan(getpass("PAN (not shown): ").replace(" ", ""))
    except CryptoError:
        raise PanRejected from None
    return jwe.encrypt(
        json.dumps({"pan": pan.reveal()}).encode(),
        parse_public(intake_jwk),
        ephemeral=ec.generate_private_key(ec.SECP256R1()),
        random=os.urandom,
    )
