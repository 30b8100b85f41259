"""A PAN that an operator types: it is encrypted to the vault's intake key at once."""

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

    Args:
        intake_jwk: the public JWK of the vault's intake key.

    Returns:
        A JWE with the plaintext ``{"pan": "<8 to 19 digits>"}``, as ``seal_record`` takes it.

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
