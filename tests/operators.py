"""Operators who sign for tests, and a host that knows them."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from crypto.jose.jws_json import Signature, SignedText
from hsm.manifest import operator_key
from hsm.manifest.body import canonical_body
from hsm.manifest.model import parse
from hsm.manifest.signed import MANIFEST_TYPE, MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.hsm_token import HsmToken
from hsm.vault import Vault
from tests.feeds import feed_member

TRUST_FILE = "trust.json"
#: Issuer and audience of access tokens: the public URL of the services of tests.
TOKEN_ISSUER = "https://pins.test"
VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
VALID_UNTIL = datetime(2050, 1, 1, tzinfo=UTC)


class OperatorKey(operator_key.OperatorKey):
    """A new key, as an operator makes one, without a file."""

    def __init__(self) -> None:
        super().__init__(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, payload: bytes, typ: str = MANIFEST_TYPE) -> Signature:
        return super().sign(payload, typ)


#: They may sign for every issuer of the tests.
OPERATORS = (OperatorKey(), OperatorKey())


def signed(
    payload: bytes, typ: str = MANIFEST_TYPE, operators: Sequence[OperatorKey] = OPERATORS
) -> str:
    """Sign *payload* as operators do offline."""
    return str(SignedText(payload, [operator.sign(payload, typ) for operator in operators]))


def manifest(issuer_id: str, version: int = 1, **members: object) -> bytes:
    """The canonical bytes of a manifest; it is for trials, valid for long, and has one feed."""
    body = {
        "issuer_id": issuer_id,
        "version": version,
        "valid_from": VALID_FROM.isoformat(),
        "valid_until": VALID_UNTIL.isoformat(),
        "sandbox": True,
        "feeds": [feed_member()],
        **members,
    }
    return parse(json.dumps(body).encode()).canonical()


def minimum_versions(listed: Mapping[str, int]) -> bytes:
    """The canonical bytes of a list of minimum versions."""
    return canonical_body(
        {
            "valid_from": VALID_FROM.isoformat(),
            "valid_until": VALID_UNTIL.isoformat(),
            "minimum_versions": dict(listed),
        }
    )


def prepare_host(directory: Path, operators: Sequence[OperatorKey] = OPERATORS) -> Path:
    """Write the trust file of a host for trials that needs two signatures; return its path."""
    trust = {
        "threshold": 2,
        "sandbox": True,
        "operators": [
            operator.entry(f"operator {number}") for number, operator in enumerate(operators, 1)
        ],
    }
    file = directory / TRUST_FILE
    file.write_text(json.dumps(trust))
    return file


def now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


def open_vault(hsm_token: HsmToken, directory: Path, clock: Callable[[], datetime] = now) -> Vault:
    """Open a vault on a host with its state in *directory*, and an empty list of versions."""
    prepare_host(directory)
    vault = reopen_vault(hsm_token, directory, clock)
    vault.load_minimum_versions(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    return vault


def reopen_vault(
    hsm_token: HsmToken, directory: Path, clock: Callable[[], datetime] = now
) -> Vault:
    """Open another vault on a host that :func:`prepare_host` prepared."""
    return Vault(hsm_token, directory, directory / TRUST_FILE, clock, TOKEN_ISSUER)
