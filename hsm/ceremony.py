"""Make the keys of a deployment from one reviewed file, and show what is on the token."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crypto.jose.jwk import thumbprint
from hsm.errors import CeremonyError
from hsm.keys import KeyKind, KeyLabel, KeyRole
from hsm.pkcs11 import Pkcs11Token


@dataclass(frozen=True, slots=True)
class KeyReport:
    """One key: its *fingerprint* is the check value (AES) or the JWK thumbprint (EC)."""

    label: KeyLabel
    fingerprint: str
    as_expected: bool


def read_roles(path: Path) -> Sequence[KeyLabel]:
    """Read a role file: TOML, one table ``keys`` of role = generation.

    Raises:
        CeremonyError: the file cannot be read, or names something that is not a role.
    """
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8"))["keys"]
        return [KeyLabel.parse(f"{role}.g{generation}") for role, generation in keys.items()]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, AttributeError):
        raise CeremonyError("not a role file") from None


def create(token: Pkcs11Token, labels: Sequence[KeyLabel]) -> Iterator[KeyReport]:
    """Make each key that the token lacks, and report every key of *labels*."""
    # Two ceremonies at once would make two keys of one label, and no vault opens on those.
    with token.alone():
        for label in labels:
            if label not in token.labels():
                token.generate(label)
            yield report(token, label)


def report(token: Pkcs11Token, label: KeyLabel) -> KeyReport:
    """Describe a key and say whether its attributes are those of its role."""
    if label.role.kind is KeyKind.AES_256:
        fingerprint = token.check_value(label).hex().upper()
    else:
        point = token.public_point(label)
        fingerprint = thumbprint(point.x, point.y)
    as_expected = token.attributes(label) == token.expected_attributes(label)
    return KeyReport(label, fingerprint, as_expected)


def missing(token: Pkcs11Token) -> Sequence[KeyRole]:
    """List the roles that have no key."""
    present = {label.role for label in token.labels()}
    return [role for role in KeyRole if role not in present]
