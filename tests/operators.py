"""Operators who sign for tests, and a host that knows them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from crypto.jose import jws_json
from crypto.jose.jwk import EcPublicKey, Point, point_jwk, thumbprint
from crypto.jose.jws_json import Signature, SignedText
from hsm.manifest.body import canonical_body
from hsm.manifest.model import parse
from hsm.manifest.signed import FLOORS_TYPE, MANIFEST_TYPE
from hsm.pkcs11.hsm_token import HsmToken
from hsm.vault import Vault

TRUST_FILE = "trust.json"
VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
VALID_UNTIL = datetime(2050, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class OperatorKey:
    """The private key of an operator, and the name of its public half."""

    private: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    @property
    def public(self) -> EcPublicKey:
        numbers = self.private.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32), numbers.y.to_bytes(32)
        return EcPublicKey(thumbprint(x, y), x, y)

    def entry(self, name: str, issuers: Sequence[str] | str = "all") -> dict[str, Any]:
        """Its entry in a trust file."""
        jwk = point_jwk(Point(self.public.x, self.public.y))
        return {"name": name, "jwk": jwk, "issuers": issuers}

    def sign(self, payload: bytes, typ: str = MANIFEST_TYPE) -> Signature:
        protected = jws_json.protected_header(self.public.kid, typ)
        signed = jws_json.signing_input(protected, payload)
        r, s = decode_dss_signature(self.private.sign(signed, ec.ECDSA(SHA256())))
        return Signature(protected, r.to_bytes(32) + s.to_bytes(32))


#: They may sign for every issuer of the tests.
OPERATORS = (OperatorKey(), OperatorKey())


def signed(
    payload: bytes, typ: str = MANIFEST_TYPE, operators: Sequence[OperatorKey] = OPERATORS
) -> str:
    """Sign *payload* as operators do offline."""
    return str(SignedText(payload, [operator.sign(payload, typ) for operator in operators]))


def manifest(issuer_id: str, version: int = 1, **members: object) -> bytes:
    """The canonical bytes of a manifest; it is for trials, and valid for long."""
    body = {
        "issuer_id": issuer_id,
        "version": version,
        "valid_from": VALID_FROM.isoformat(),
        "valid_until": VALID_UNTIL.isoformat(),
        "sandbox": True,
        **members,
    }
    return parse(json.dumps(body).encode()).canonical()


def floors(listed: Mapping[str, int]) -> bytes:
    """The canonical bytes of a list of floors."""
    return canonical_body(
        {
            "valid_from": VALID_FROM.isoformat(),
            "valid_until": VALID_UNTIL.isoformat(),
            "floors": dict(listed),
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


def open_vault(hsm_token: HsmToken, directory: Path) -> Vault:
    """Open a vault over *hsm_token* on a host whose state is in *directory*, with no floors set."""
    prepare_host(directory)
    vault = reopen_vault(hsm_token, directory)
    vault.load_floors(signed(floors({}), FLOORS_TYPE))
    return vault


def now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


def reopen_vault(
    hsm_token: HsmToken, directory: Path, clock: Callable[[], datetime] = now
) -> Vault:
    """Open another vault on a host that :func:`prepare_host` prepared."""
    return Vault(hsm_token, directory, directory / TRUST_FILE, clock)
