"""Token operations a second, beside the same in this process and beside OpenSSL in C.

*token* is SoftHSM2 through :class:`hsm.pkcs11.token.Pkcs11Token`, as the vault calls it;
*python-pkcs11* is the same session through the binding (:mod:`benchmarks.binding`).
*cryptography* is the same operation in this process with a key in plain memory: what it costs to
keep the key in the token. *openssl speed* is a C loop over the bare algorithm with everything
set up beforehand: what the processor can do. Below: the verbs of the vault, with what of each
passes inside token calls.

A record's AES-GCM and the CMAC cover what they do in the vault: 320 and about 100 bytes.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from benchmarks.binding import BindingToken
from benchmarks.deployment import (
    ORGANISATION,
    Issuer,
    described,
    directory_and_hsm_token,
    make_issuer,
)
from benchmarks.floors import CountingHsmToken, counted_vault, set_one_pin
from benchmarks.measure import ROUNDS, heading, interleaved, machine, rate
from crypto.jose import jwe
from crypto.secret import Secret
from hsm.pkcs11.keys import KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import CertificateFacts
from hsm.vault import Vault

BLOCK: Final = bytes(range(16))
NONCE: Final = bytes(12)
RECORD_FIELD: Final = bytes(320)
MAC_INPUT: Final = bytes(100)
DIGEST: Final = bytes(32)
KEY: Final = bytes(range(32))
OTHER_INFO: Final = jwe.other_info(jwe.ENC, b"", b"", jwe.KEY_BITS)

VERB_SECONDS: Final = 0.3

TOKEN: Final = "token"
BINDING: Final = "python-pkcs11"
PEER: Final = "cryptography"
OPENSSL: Final = "openssl speed"

#: The arguments of ``openssl speed`` for each operation.
SPEED: Final[Mapping[str, tuple[str, ...]]] = {
    "AES-ECB, one block": ("-bytes", "16", "-evp", "aes-256-ecb"),
    "AES-CBC, two blocks": ("-bytes", "32", "-evp", "aes-256-cbc"),
    "AES-CMAC": ("-bytes", "100", "-cmac", "aes-256-cbc"),
    "AES-GCM, encrypt": ("-bytes", "320", "-evp", "aes-256-gcm"),
    "AES-GCM, decrypt": ("-bytes", "320", "-decrypt", "-evp", "aes-256-gcm"),
    "ECDH and Concat KDF": ("ecdhp256",),
    "ECDSA, sign": ("ecdsap256",),
    "random, 16 bytes": ("-bytes", "16", "rand"),
}
Operation = Callable[[], object]


def operations(hsm_token: Pkcs11Token) -> Mapping[str, Mapping[str, Operation]]:
    """List the ways to do each operation: in the HSM token, and the same in this process."""
    binding = BindingToken.over(hsm_token)
    label = {label.role: label for label in hsm_token.labels()}
    pin, pin_mac, record = label[KeyRole.PIN], label[KeyRole.PIN_MAC], label[KeyRole.RECORD]
    in_token = hsm_token.encrypt_gcm(record, NONCE, RECORD_FIELD)
    gcm = AESGCM(KEY)
    here = gcm.encrypt(NONCE, RECORD_FIELD, None)
    private = ec.generate_private_key(ec.SECP256R1())
    partner = hsm_token.public_point(label[KeyRole.D1])

    def block() -> bytes:
        encryptor = Cipher(AES(KEY), ECB()).encryptor()
        return encryptor.update(BLOCK) + encryptor.finalize()

    def blocks() -> bytes:
        encryptor = Cipher(AES(KEY), CBC(BLOCK)).encryptor()
        return encryptor.update(2 * BLOCK) + encryptor.finalize()

    def mac() -> bytes:
        context = CMAC(AES(KEY))
        context.update(MAC_INPUT)
        return context.finalize()

    def agree() -> bytes:
        shared = private.exchange(ec.ECDH(), partner.public_key())
        return ConcatKDFHash(SHA256(), 32, OTHER_INFO).derive(shared)

    def ways(here: Operation, in_token: Callable[[Pkcs11Token], object]) -> Mapping[str, Operation]:
        return {
            TOKEN: lambda: in_token(hsm_token),
            BINDING: lambda: in_token(binding),
            PEER: here,
        }

    return {
        "AES-ECB, one block": ways(block, lambda one: one.encrypt_block(pin, BLOCK)),
        "AES-CBC, two blocks": ways(blocks, lambda one: one.encrypt_cbc(pin, BLOCK, 2 * BLOCK)),
        "AES-CMAC": ways(mac, lambda one: one.mac(pin_mac, MAC_INPUT)),
        "AES-GCM, encrypt": ways(
            lambda: gcm.encrypt(NONCE, RECORD_FIELD, None),
            lambda one: one.encrypt_gcm(record, NONCE, RECORD_FIELD),
        ),
        "AES-GCM, decrypt": ways(
            lambda: gcm.decrypt(NONCE, here, None),
            lambda one: one.decrypt_gcm(record, NONCE, in_token),
        ),
        "ECDH and Concat KDF": ways(
            agree, lambda one: one.agree(label[KeyRole.D1], partner, OTHER_INFO)
        ),
        "ECDSA, sign": ways(
            lambda: private.sign(DIGEST, ec.ECDSA(Prehashed(SHA256()))),
            lambda one: one.sign(label[KeyRole.TOKEN_SIGN], DIGEST),
        ),
        "random, 16 bytes": ways(lambda: os.urandom(16), lambda one: one.random(16)),
    }


def verbs(vault: Vault, issuer: Issuer) -> Mapping[str, Operation]:
    """List the verbs of the vault that requests need, each for one card."""
    card, sealed = next(iter(issuer.sealed.items()))
    pan = sealed.sealed_record
    feed = issuer.feed_writer.write([described(0)])
    pin = set_one_pin(vault, issuer)
    assert pin is not None, "it came as ISO-0"
    d1 = issuer.d1
    secret = Secret(d1.client_secret_file.read_text())
    subject = f"CN=d1,O={ORGANISATION}"
    certificate = CertificateFacts("thumbprint", subject, frozenset({subject}))
    return {
        "set_pin_from_jwe": lambda: set_one_pin(vault, issuer),
        "export_jwe": lambda: vault.export_jwe(pin, pan, card, 1),
        "seal_cards, one card": lambda: vault.seal_cards(feed, card.issuer_id),
        "issue_token": lambda: vault.issue_token(d1.client_id, secret, certificate),
    }


def openssl_speed(*arguments: str) -> float:
    """Let OpenSSL's own benchmark run for a second; return operations a second of one core."""
    command = ("openssl", "speed", "-elapsed", "-seconds", "1", "-mr", *arguments)
    run = subprocess.run(command, capture_output=True, check=True, text=True)
    # +F:<number>:<name>:<bytes a second>, or +F<number>:…:<bits>:<operations a second>:…
    result = [line.split(":") for line in run.stdout.splitlines() if line.startswith("+F")][-1]
    size = int(arguments[1]) if arguments[0] == "-bytes" else 1
    return float(result[3]) / size


def main() -> int:
    """Measure and print."""
    heading(f"Token operations · {machine()}")
    with directory_and_hsm_token() as (directory, hsm_token):
        _print_operations(hsm_token)
        _print_verbs(hsm_token, make_issuer(directory, hsm_token, "https://localhost"))
    return 0


def _print_operations(hsm_token: Pkcs11Token) -> None:
    print(f"{'operations a second, one core':<30}{TOKEN:>8}{BINDING:>15}{PEER:>14}", end="")
    print(f"{OPENSSL:>15}{f'token/{BINDING}':>21}{f'{PEER}/token':>20}")
    for name, ways in operations(hsm_token).items():
        rates = interleaved(ways)
        line = f"{name:<30}{rates[TOKEN]:>8.0f}{rates[BINDING]:>15.0f}{rates[PEER]:>14.0f}"
        line += f"{openssl_speed(*SPEED[name]):>15.0f}{rates[TOKEN] / rates[BINDING]:>21.2f}"
        print(f"{line}{rates[PEER] / rates[TOKEN]:>20.1f}", flush=True)


def _print_verbs(hsm_token: Pkcs11Token, issuer: Issuer) -> None:
    print(f"\n{'verbs of the vault':<32}{'a second':>10}{'us each':>14}{'in token calls':>20}")
    counting = CountingHsmToken(hsm_token)
    measured = verbs(counted_vault(counting), issuer)
    rates: dict[str, list[float]] = {name: [] for name in measured}
    shares: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, verb in measured.items():
            counting.seconds = 0.0
            started = time.perf_counter()
            rates[name].append(rate(verb, VERB_SECONDS))
            shares[name].append(counting.seconds / (time.perf_counter() - started))
    for name in measured:
        each = 1e6 / median(rates[name])
        print(f"{name:<32}{median(rates[name]):>10.0f}{each:>14.0f}{median(shares[name]):>20.0%}")


if __name__ == "__main__":
    sys.exit(main())
