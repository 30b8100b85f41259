"""What each issuer of the demo decides: vault configuration, sealed by the HSM token."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from cms.sandbox import files, keys
from cms.sandbox.cards import ISSUERS
from cms.sandbox.operator_commands import run

VALID: Final = {"valid_from": "2020-01-01T00:00:00Z", "valid_until": "2050-01-01T00:00:00Z"}
#: What the issuer of the SECCOS card makes of every PIN, for its authorisation host.
VERIFICATION: Final = {"pvv": {"key_index": 1}, "offset_3624": {"table": "0123456789012345"}}


def load(issuer: str) -> None:
    """Seal and load every kind of configuration of an issuer."""
    for kind, body in _bodies(issuer).items():
        draft = files.CONFIG / f"{issuer}-{kind}.json"
        sealed = _sealed_file(issuer, kind)
        document = {"issuer_id": issuer, "kind": kind, "version": 1, **VALID, "body": body}
        files.write(draft, json.dumps(document, indent=2))
        files.write(sealed, run("hsm", "config", "seal", files.relative(draft), quiet=True))
        run("cms", "config", "load", files.relative(sealed))


def sealed_body(issuer: str, kind: str) -> dict[str, Any]:
    """Return the body of a configuration as it was sealed: every default is written out."""
    body: dict[str, Any] = json.loads(_sealed_file(issuer, kind).read_text())["body"]
    return body


def _bodies(issuer: str) -> Mapping[str, Mapping[str, object]]:
    bodies: dict[str, Mapping[str, object]] = {
        "wire": {},
        "policy": {},
        "recipient": {"jwk": keys.public_jwk(files.D1_KEY)},
    }
    if issuer == ISSUERS[0]:
        # Off unless an issuer wants it; here, a person is to try text and speech.
        bodies["policy"] = {"text_reveal": True}
        bodies["seccos"] = {}
        bodies["verification"] = VERIFICATION
        bodies["verification-host"] = {"jwk": keys.public_jwk(files.AUTHORISATION_HOST_KEY)}
    return bodies


def _sealed_file(issuer: str, kind: str) -> Path:
    return files.CONFIG / f"{issuer}-{kind}.sealed.json"
