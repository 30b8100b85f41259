"""Tables of key generations, as operators sign them for tests."""

import json
from collections.abc import Mapping
from pathlib import Path

from hsm import generations
from hsm.manifest.generation_table import State, parse
from hsm.manifest.signed import GENERATIONS_TYPE
from hsm.manifest.trust import read_trust
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import MAC_ROLES, OWN_ROLES, KeyLabel
from hsm.vault import Vault
from hsm.verbs import PinVault
from tests.operators import TRUST_FILE, VALID_FROM, VALID_UNTIL, signed

SINCE = VALID_FROM.isoformat()
FIRST: Mapping[str, str] = {f"{role}.g1": "active" for role in OWN_ROLES}


def rotated(
    *roles: str, before: Mapping[str, str] = FIRST, state: str = "decrypt-only"
) -> dict[str, str]:
    """The states when the next generation of *roles* is active and the one before in *state*.

    With a role that seals goes that of its MAC.
    """
    states = dict(before)
    for role in [*roles, *(mac for one, mac in MAC_ROLES.items() if one in roles)]:
        (old,) = (x for x in states if is_active(x, role, states))
        states[old] = state
        states[str(next_of(old))] = "active"
    return states


def is_active(label: str, role: str, states: Mapping[str, str]) -> bool:
    return KeyLabel.parse(label).role == role and states[label] == "active"


def next_of(label: str) -> KeyLabel:
    parsed = KeyLabel.parse(label)
    return KeyLabel(parsed.role, parsed.generation + 1, parsed.issuer_id)


def table(
    states: Mapping[str, str], version: int = 1, since: Mapping[str, str] | None = None
) -> bytes:
    """The canonical bytes of a table.

    A state is since the version in which it is first: version *n* is made in year 2020 + *n*.
    """
    dates = since or {}
    body = {
        "version": version,
        "valid_from": VALID_FROM.isoformat(),
        "valid_until": VALID_UNTIL.isoformat(),
        "generations": {
            label: {"state": State(state).value, "since": dates.get(label, SINCE)}
            for label, state in states.items()
        },
    }
    return parse(json.dumps(body).encode()).canonical()


def make_newest_active(before: PinVault, directory: Path, hsm_token: HsmToken) -> None:
    """Have a host keep a first table: of each role the newest is active, others decrypt-only.

    The vault *before* goes on as if there were none.
    """
    assert isinstance(before, Vault)  # one in this process
    before._keyring._generations = None
    labels = sorted(
        (x for x in hsm_token.labels() if not x.role.per_issuer), key=lambda x: x.generation
    )
    newest = {x.role: x for x in labels}
    states = {str(x): "active" if newest[x.role] == x else "decrypt-only" for x in labels}
    text = signed(table(states), GENERATIONS_TYPE)
    trust = read_trust(directory / TRUST_FILE)
    generations.keep(generations.of_host(directory, hsm_token), text, trust, {*labels})


class Tables:
    """Signs one table after the other, each with the dates that it must have."""

    def __init__(self) -> None:
        self.version = 0
        self.states: dict[str, str] = {}
        self.since: dict[str, str] = {}

    def next(self, states: Mapping[str, str]) -> str:
        self.version += 1
        at = VALID_FROM.replace(year=VALID_FROM.year + self.version).isoformat()
        for label, state in states.items():
            if self.states.get(label) != state:
                self.since[label] = at
        self.states = dict(states)
        return signed(table(states, self.version, self.since), GENERATIONS_TYPE)
