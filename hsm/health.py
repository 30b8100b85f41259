"""The health of the vault: every active key of the HSM token is used once and its answer compared.

A key that is there and computes something else is as bad as one that is missing.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final

from crypto.errors import JoseError
from crypto.jose import json_object, jws
from hsm.errors import HsmError, VaultUnavailable
from hsm.jose_keys import JoseKeys
from hsm.pkcs11.fingerprints import NO_FINGERPRINT, Fingerprints
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import KeyLabel, Usage

SAMPLE_BYTES: Final = 16
SAMPLE_TYPE: Final = "health"
"""Of the JWT that is signed: not the type of an access token."""


def check(
    hsm_token: HsmToken,
    jose_keys: JoseKeys,
    labels: Iterable[KeyLabel],
    fingerprints: Fingerprints,
) -> None:
    """Use every key of *labels* once and compare what comes back.

    Raises:
        VaultUnavailable: the HSM token or a key does not answer, or an answer is wrong; it names
            the key, with its fingerprint where *fingerprints* can read it.
    """
    wrong = [label for label in labels if not _answers(hsm_token, jose_keys, label)]
    if wrong:
        known: Mapping[KeyLabel, str] = {}
        with suppress(HsmError):
            known = fingerprints.read()
        named = (f"{each} ({known.get(each, NO_FINGERPRINT)})" for each in wrong)
        reason = "the token's answer is wrong, with " + ", ".join(named)
        raise VaultUnavailable(reason)


def _answers(hsm_token: HsmToken, jose_keys: JoseKeys, label: KeyLabel) -> bool:
    """Use the key *label* once, and say whether what comes back is right."""
    sample = hsm_token.random(SAMPLE_BYTES)
    match label.role.usage:
        case Usage.MAC:
            return hsm_token.mac(label, sample) == hsm_token.mac(label, sample)
        case Usage.ENCRYPT:
            # One block in CBC mode, as verbs encipher, is what ECB mode deciphers, as they do.
            enciphered = hsm_token.encrypt_cbc(label, bytes(SAMPLE_BYTES), sample)
            return hsm_token.decrypt_block(label, enciphered) == sample
        case Usage.AGREE:
            return _opens_a_jwe(jose_keys, label, sample)
        case Usage.SIGN:
            return _signs(jose_keys, label)
        case Usage.ENCRYPT_ONLY | Usage.DECRYPT | Usage.DERIVE:
            return False  # of shared keys only, and none of those is ever active


def _opens_a_jwe(jose_keys: JoseKeys, label: KeyLabel, sample: bytes) -> bool:
    members: dict[str, object] = {"sample": sample.hex()}
    text = jose_keys.encrypt(json_object.serialize(members), jose_keys.public_key(label))
    try:
        return jose_keys.open_jwe(text, label.role) == members
    except JoseError:
        return False


def _signs(jose_keys: JoseKeys, label: KeyLabel) -> bool:
    key = jose_keys.public_key(label)
    try:
        jws.verify(jose_keys.sign({}, label, SAMPLE_TYPE), {key.kid: key}, SAMPLE_TYPE)
    except JoseError:
        return False
    return True
