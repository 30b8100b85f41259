"""Two operators, and the host whose vault takes what they sign."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from crypto.jose.jws_json import SignedText
from hsm.local import vault_over
from hsm.manifest import generation_table, minimum_versions, model
from hsm.manifest.body import canonical_body
from hsm.manifest.generation_table import State
from hsm.manifest.operator_key import OperatorKey
from hsm.manifest.signed import GENERATIONS_TYPE, MANIFEST_TYPE, MINIMUM_VERSIONS_TYPE
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import VaultSettings
from hsm.vault import Vault

NAMES: Final = ("Ann", "Bob")
#: Higher than any run gets.
LIMITS: Final = {f"handouts_{whose}_day_max": 10_000_000 for whose in ("card", "client", "issuer")}
DATES: Final = {"valid_from": "2020-01-01T00:00:00Z", "valid_until": "2050-01-01T00:00:00Z"}


class Operators:
    """The keys of two operators."""

    def __init__(self) -> None:
        self._keys = [OperatorKey(ec.generate_private_key(ec.SECP256R1())) for _ in NAMES]
        self._since: dict[KeyLabel, str] = {}

    def begin(self, directory: Path, hsm_token: Pkcs11Token) -> Vault:
        """Begin a host in *directory*, which the environment of this process then names."""
        self.be_trusted(directory)
        (directory / "vault").mkdir()
        os.environ["HSM_TRUST_FILE"] = str(directory / "trust.json")
        os.environ["HSM_STATE_DIRECTORY"] = str(directory / "vault")
        vault = vault_over(hsm_token, VaultSettings())
        listed = minimum_versions.parse(canonical_body({**DATES, "minimum_versions": {}}))
        vault.load_minimum_versions(self._sign(listed.canonical(), MINIMUM_VERSIONS_TYPE))
        return vault

    def be_trusted(self, directory: Path) -> None:
        """Write the trust file of the host, which names these operators only."""
        entries = [key.entry(name) for key, name in zip(self._keys, NAMES, strict=True)]
        trust = {"threshold": len(NAMES), "sandbox": True, "operators": entries}
        (directory / "trust.json").write_text(json.dumps(trust))

    def generations(self, version: int, states: Mapping[KeyLabel, State], *changed: KeyRole) -> str:
        """Sign a table of key generations, by which keys of the roles *changed* have others."""
        self._since |= {x: _moment(version) for x in states if x.role in changed}
        generations = {
            str(label): {"state": state.value, "since": self._since.get(label, _moment(0))}
            for label, state in states.items()
        }
        body = {**DATES, "version": version, "generations": generations}
        return self._sign(
            generation_table.parse(canonical_body(body)).canonical(), GENERATIONS_TYPE
        )

    def manifest(self, issuer_id: str, **members: object) -> str:
        """Sign the first manifest of an issuer, with these members and no limit to speak of."""
        body = {"issuer_id": issuer_id, "version": 1, **DATES, "sandbox": True, "limits": LIMITS}
        body |= members
        return self._sign(model.parse(canonical_body(body)).canonical(), MANIFEST_TYPE)

    def _sign(self, payload: bytes, typ: str) -> str:
        return str(SignedText(payload, [key.sign(payload, typ) for key in self._keys]))


def _moment(version: int) -> str:
    return (datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=version)).isoformat()
