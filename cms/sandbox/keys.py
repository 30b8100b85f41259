"""The demo's keys: those of the HSM token, and those that partners share with the issuer."""

import json
import secrets
from pathlib import Path
from typing import Final

from cms.sandbox import files
from cms.sandbox.operator_commands import run, run_apart
from cms.sandbox.partners import key_exchange

#: Of the keys that D1 shares: the role, the name in D1's file, TR-31 usage and mode of use, bytes.
#: V verifies, G makes, X derives: those of TDES are master keys.
D1_KEYS: Final = (
    ("seccos-pin", "pinBlock", "E1", "X", key_exchange.TDES_KEY_BYTES),
    ("seccos-prw", "prw", "M6", "V", key_exchange.AES_KEY_BYTES),
    ("seccos-mac-master", "mac", "E2", "X", key_exchange.TDES_KEY_BYTES),
)
#: The keys with which the issuer makes verification values.
PIN_VERIFICATION_KEYS: Final = (("pvk", "V2", "G"), ("pvk-3624", "V1", "G"))


def make() -> None:
    """Hold the key ceremony, publish what partners encrypt to, and make the partners' key pairs."""
    run("hsm", "ceremony", "hsm/roles.toml")
    files.write(files.INTAKE_JWKS, run("hsm", "jwks", "intake", quiet=True))
    files.write(files.ISSUER_JWKS, run("hsm", "jwks", "d1", quiet=True))
    for file in (files.D1_KEY, files.AUTHORISATION_HOST_KEY):
        files.write(file, json.dumps(key_exchange.private_jwk()))


def share(issuer: str) -> None:
    """Bring the keys of D1, and two that the issuer has, into the HSM token as key blocks.

    The block-protection key exists here only as long as this takes.
    """
    kbpk = secrets.token_bytes(key_exchange.AES_KEY_BYTES)
    typed = []
    for component in key_exchange.components(kbpk):
        typed += [component, key_exchange.kcv(bytes.fromhex(component))]
    typed.append(key_exchange.kcv(kbpk))
    _hold_ceremony("import-components", "block-protection", issuer, typed=typed)

    d1_side = {}
    for role, name, usage, mode, size in D1_KEYS:
        key = secrets.token_bytes(size)
        d1_side[name] = key.hex().upper()
        _import_block(issuer, role, key, key_exchange.key_block(kbpk, key, usage, mode))
    files.write(files.SECCOS_KEYS, json.dumps(d1_side))

    for role, usage, mode in PIN_VERIFICATION_KEYS:
        key = secrets.token_bytes(key_exchange.TDES_KEY_BYTES)
        _import_block(issuer, role, key, key_exchange.key_block(kbpk, key, usage, mode))


def _import_block(issuer: str, role: str, key: bytes, block: str) -> None:
    file = files.CONFIG / f"{issuer}-{role}.tr31"
    files.write(file, block + "\n")
    words = ("import-block", role, issuer, files.relative(file))
    _hold_ceremony(*words, typed=[key_exchange.kcv(key)])


def _hold_ceremony(command: str, role: str, issuer: str, *words: str, typed: list[str]) -> None:
    """Run a command that two custodians are needed for; their keys have no passphrase here."""
    record = files.CONFIG / f"{issuer}-{role}.record"
    record.unlink(missing_ok=True)  # of an earlier set-up
    for key in files.CUSTODIANS.values():
        words += ("--custodian", files.relative(key))
    words += ("--record", files.relative(record))
    run_apart("hsm", command, role, issuer, *words, typed=typed)


def public_jwk(file: Path) -> dict[str, str]:
    """Return the public key in a file: of a private JWK, or the first of a JWK set."""
    content = json.loads(file.read_text())
    jwk: dict[str, str] = content["keys"][0] if "keys" in content else content
    return {name: value for name, value in jwk.items() if name != "d"}
