"""The table of key generations: what each key of the HSM token may be used for.

Two operators sign it, and each host keeps the newest::

    {"type": "generations", "version": 2, "valid_from": "…", "valid_until": "…",
     "generations": {"pin.g1": {"state": "decrypt-only", "since": "…", "kcv": null}, …}}

A label that a table does not name is used for nothing. It names a key of every role of our own; a
role that came with a later release is as without a table, until the next one names its keys. The
dates say when a host may take the table; one that is taken stays in force until the next. *since*
is when the operators decided, and starts nothing itself.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Final, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from hsm.errors import CeremonyError, ManifestRefused
from hsm.manifest.body import Body, SignedBody, parse_body
from hsm.manifest.model import VERSION_MAX
from hsm.pkcs11.keys import MAC_ROLES, KeyLabel, KeyRole


class State(StrEnum):
    """What a key may be used for."""

    LOADED = "loaded"
    """It opens: another host may seal under it already. Partners are not told of it yet."""
    ACTIVE = "active"
    """It seals, signs and opens: of a role of our own exactly one."""
    DECRYPT_ONLY = "decrypt-only"
    """It opens what it sealed, and what partners still encrypt to it."""
    RETIRED = "retired"
    """Nothing needs it. It can come back as decrypt-only."""
    COMPROMISED = "compromised"
    """Somebody else may have it: nothing opens with it, ever."""
    DESTROYED = "destroyed"
    """It was destroyed, or is about to be."""


OPENING: Final = frozenset({State.LOADED, State.ACTIVE, State.DECRYPT_ONLY})
LOST: Final = frozenset({State.COMPROMISED, State.DESTROYED})
"""From which no key comes back."""
SHARED_STATES: Final = frozenset({State.ACTIVE, State.RETIRED, State.COMPROMISED, State.DESTROYED})
"""Of a shared key: which of those that are active is used, the issuer's manifest says."""
SUCCESSORS: Final[Mapping[State, frozenset[State]]] = {
    State.LOADED: frozenset(State) - {State.DESTROYED},
    State.ACTIVE: frozenset({State.ACTIVE, State.DECRYPT_ONLY, State.COMPROMISED}),
    State.DECRYPT_ONLY: frozenset(
        {State.DECRYPT_ONLY, State.ACTIVE, State.RETIRED, State.COMPROMISED}
    ),
    State.RETIRED: frozenset(
        {State.RETIRED, State.DECRYPT_ONLY, State.COMPROMISED, State.DESTROYED}
    ),
    State.COMPROMISED: frozenset({State.COMPROMISED, State.DESTROYED}),
    State.DESTROYED: frozenset({State.DESTROYED}),
}
"""What a key of our own can become, or stay."""
SHARED_SUCCESSORS: Final[Mapping[State, frozenset[State]]] = {
    **SUCCESSORS,
    State.ACTIVE: frozenset({State.ACTIVE, State.RETIRED, State.COMPROMISED}),
    State.RETIRED: frozenset({State.RETIRED, State.ACTIVE, State.COMPROMISED, State.DESTROYED}),
}


class Generation(Body):
    """A key's state, and since when."""

    state: State = Field(strict=False)
    since: AwareDatetime
    kcv: Annotated[str, Field(pattern="^[0-9A-F]{6}$")] | None = None
    """Of a shared key that is compromised, or was: no key of this KCV is imported again."""


class GenerationTable(SignedBody):
    """A table of key generations; a host takes it while it is in force."""

    type: Literal["generations"] = "generations"
    version: Annotated[int, Field(ge=1, le=VERSION_MAX)]
    generations: dict[str, Generation]
    """By key label."""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        try:
            states = self.states
        except CeremonyError:
            raise ValueError("generations names what is no key label") from None
        for label, state in states.items():
            if label.role.per_issuer and state not in SHARED_STATES:
                raise ValueError("a shared key is active, retired, compromised or destroyed")
            if self.generations[str(label)].kcv and not (label.role.per_issuer and state in LOST):
                raise ValueError("only of a shared key that is compromised the table has the KCV")
            if label.role is KeyRole.LOG_MAC and state is State.DESTROYED:
                raise ValueError("a key of role log-mac proves its lines: it is never destroyed")
            partner = MAC_ROLES.get(label.role)
            if partner is not None and states.get(label.of(partner)) is not state:
                raise ValueError("a sealing key and the key of its MAC have one state")
        sealing = {mac: role for role, mac in MAC_ROLES.items()}
        if any(x.role in sealing and x.of(sealing[x.role]) not in states for x in states):
            raise ValueError("a sealing key and the key of its MAC have one state")
        active = [x.role for x, state in states.items() if state is State.ACTIVE]
        if any(active.count(role) != 1 for role in self.roles):
            raise ValueError("a role of our own has exactly one active key")
        return self

    @cached_property
    def states(self) -> Mapping[KeyLabel, State]:
        """The state of each key that it names."""
        return {KeyLabel.parse(text): one.state for text, one in self.generations.items()}

    @cached_property
    def roles(self) -> frozenset[KeyRole]:
        """The roles of our own of which it names a key."""
        return frozenset(label.role for label in self.states if not label.role.per_issuer)

    @cached_property
    def active(self) -> Mapping[KeyRole, KeyLabel]:
        """The active key of each role of our own."""
        return {
            label.role: label
            for label, state in self.states.items()
            if state is State.ACTIVE and not label.role.per_issuer
        }

    def opens(self, label: KeyLabel) -> bool:
        """Tell whether what was made with a key of our own, or for it, is opened.

        Of a role that it does not name at all, as one that is younger than the table, each is.
        """
        return self.states.get(label) in OPENING or label.role not in self.roles

    def forbids(self, label: KeyLabel) -> bool:
        """Tell whether it says of a shared key that nothing is done with it."""
        return self.states.get(label) in SHARED_STATES - {State.ACTIVE}

    def check_follows(self, before: "GenerationTable") -> None:
        """Look whether this can be the table after *before*.

        Raises:
            ManifestRefused: it leaves out a key, a key cannot become what it says, has another KCV
                than before, or has a state since another time than before.
        """
        for text, old in before.generations.items():
            new = self.generations.get(text)
            if new is None:
                raise ManifestRefused("the table leaves out a key that the one before it names")
            per_issuer = KeyLabel.parse(text).role.per_issuer
            if new.state not in (SHARED_SUCCESSORS if per_issuer else SUCCESSORS)[old.state]:
                raise ManifestRefused("a key cannot become what the table says of it")
            if old.kcv is not None and new.kcv != old.kcv:
                raise ManifestRefused("a key has another KCV than in the table before")
            # Two changes can be within one second.
            if new.since < old.since or (new.state is old.state and new.since != old.since):
                raise ManifestRefused("a state has another date than the change to it")
        for text in self.generations.keys() - before.generations.keys():
            if self.generations[text].state is State.DESTROYED:
                raise ManifestRefused("a key is destroyed that the table before does not name")


def parse(text: bytes) -> GenerationTable:
    """Read a table of generations, or a draft of one, from JSON.

    Raises:
        ManifestRefused: *text* is none; the message names the members at fault.
    """
    return parse_body(GenerationTable, text)
