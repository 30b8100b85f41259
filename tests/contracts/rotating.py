"""An issuer at a host of its own, whose keys go from one generation to the next."""

from collections.abc import Mapping
from pathlib import Path

from hsm.errors import HsmError
from hsm.pkcs11.keys import KeyLabel
from tests.contracts.issuer import open_host, open_issuer
from tests.contracts.software_token import SoftwareToken
from tests.key_tables import FIRST, Tables, rotated


class Rotating:
    """An issuer at a host of its own, whose HSM token gets keys as they are named."""

    def __init__(self, hosts: Path) -> None:
        self.hsm_token = SoftwareToken()
        self.issuer = open_issuer(open_host(self.hsm_token, hosts))
        self.vault = self.issuer.vault
        self.tables = Tables()
        self.states: Mapping[str, str] = FIRST

    def load(self, states: Mapping[str, str]) -> None:
        for label in map(KeyLabel.parse, states):
            if label not in self.hsm_token.labels():
                self.hsm_token.generate(label)
        before = dict(self.tables.states), dict(self.tables.since), self.tables.version
        try:
            self.vault.load_generations(self.tables.next(states))
        except HsmError:
            self.tables.states, self.tables.since, self.tables.version = before
            raise
        self.states = states

    def rotate(self, *roles: str, state: str = "decrypt-only") -> None:
        self.load(rotated(*roles, before=self.states, state=state))

    def become(self, **states: str) -> None:
        named = {name.replace("__", ".").replace("_", "-"): state for name, state in states.items()}
        self.load({**self.states, **named})
