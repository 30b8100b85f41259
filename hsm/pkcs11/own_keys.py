"""Make the keys of a deployment from one reviewed file, and show what is on the HSM token."""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hsm.errors import CeremonyError
from hsm.pkcs11.fingerprints import fingerprint
from hsm.pkcs11.keys import OWN_ROLES, KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token


@dataclass(frozen=True, slots=True)
class KeyReport:
    """What an operator sees of one key.

    *fingerprint* is as :mod:`hsm.pkcs11.fingerprints` has it. *unknown* are attributes that the
    device does not know: they protect nothing there.
    """

    label: KeyLabel
    kind: KeyKind
    fingerprint: str
    as_expected: bool
    unknown: Sequence[str]


def read_roles(path: Path) -> Sequence[KeyLabel]:
    """Read a role file: TOML, one table ``keys`` of role = generation.

    Raises:
        CeremonyError: the file cannot be read, is not laid out like this, or names a role that
            does not exist or is of shared keys.
    """
    try:
        keys = tomllib.loads(path.read_text(encoding="utf-8-sig"))["keys"]
        labels = [KeyLabel.parse(f"{role}.g{generation}") for role, generation in keys.items()]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, AttributeError):
        raise CeremonyError("not a role file") from None
    if any(label.role.per_issuer for label in labels):
        raise CeremonyError("not a role file: shared keys are imported")
    return labels


def create(hsm_token: Pkcs11Token, labels: Sequence[KeyLabel]) -> Iterator[KeyReport]:
    """Make each key of *labels* that is not on the HSM token, and report all of them.

    Raises:
        VaultUnavailable: the HSM token does not answer.
    """
    # Two ceremonies at once would make two keys of one label, and no vault opens on those.
    with hsm_token.alone():
        yield from create_each(hsm_token, labels)


def create_each(hsm_token: Pkcs11Token, labels: Sequence[KeyLabel]) -> Iterator[KeyReport]:
    """Do as :func:`create` does, where the caller keeps others from making keys.

    Raises:
        VaultUnavailable: the HSM token does not answer.
    """
    for label in labels:
        if label not in hsm_token.labels():
            hsm_token.generate(label)
        yield report(hsm_token, label)


def report(hsm_token: Pkcs11Token, label: KeyLabel) -> KeyReport:
    """Describe a key, and say whether kind and attributes are those of its role."""
    kind = hsm_token.kind(label)
    unknown = hsm_token.expected_attributes(label).keys() - hsm_token.attributes(label).keys()
    return KeyReport(
        *(label, kind, fingerprint(hsm_token, label)),
        hsm_token.is_as_expected(label),
        tuple(sorted(unknown)),
    )


def missing(hsm_token: Pkcs11Token) -> Sequence[KeyRole]:
    """List the roles of our own that have no key on the HSM token."""
    present = {label.role for label in hsm_token.labels()}
    return [role for role in OWN_ROLES if role not in present]
