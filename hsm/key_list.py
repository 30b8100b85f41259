"""What a host says of its keys: of those on the HSM token, and of those that its table names."""

from collections.abc import Mapping
from datetime import UTC, datetime

from hsm.generations import state_of
from hsm.jose_keys import JoseKeys
from hsm.manifest.generation_table import GenerationTable
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyKind, KeyLabel
from hsm.port import KeyGeneration, KeyGenerations


def read(
    keyring: Keyring,
    jose_keys: JoseKeys,
    table: GenerationTable | None,
    uses: Mapping[str, tuple[int, float]],
) -> KeyGenerations:
    """List the keys of a host, by role, issuer and generation.

    Args:
        keyring: what is on the HSM token.
        jose_keys: the kids of EC keys.
        table: that is in force; None: there is none.
        uses: how many JWEs each key opened, and when the last (:mod:`hsm.kid_uses`).
    """
    there = {*keyring.labels}
    keys = []
    for label in sorted(there | {*(() if table is None else table.states)}, key=_order):
        state, since = _state(label, keyring, table)
        is_ec = label in there and label.role.kind is KeyKind.EC_P256
        jwes, last_at = uses.get(str(label), (0, 0.0))
        last = datetime.fromtimestamp(last_at, UTC).isoformat(timespec="seconds") if jwes else ""
        kid = jose_keys.public_key(label).kid if is_ec else ""
        keys.append(KeyGeneration(str(label), state, since, label in there, kid, jwes, last))
    return KeyGenerations(0 if table is None else table.version, keys)


def _state(label: KeyLabel, keyring: Keyring, table: GenerationTable | None) -> tuple[str, str]:
    named = None if table is None else table.generations.get(str(label))
    since = "" if named is None else named.since.isoformat()
    return state_of(label, table, keyring.active) or "", since


def _order(label: KeyLabel) -> tuple[str, str, int]:
    return label.role, label.issuer_id or "", label.generation
