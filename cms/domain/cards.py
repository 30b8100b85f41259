"""What a card is, and what its state allows."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from cms.domain.errors import CardForbids


class CardState(StrEnum):
    """The life of a card. Closed is the end."""

    INACTIVE = "inactive"
    ACTIVE = "active"
    BLOCKED = "blocked"
    CLOSED = "closed"


class CardType(StrEnum):
    """What a cardholder has of a card."""

    VIRTUAL = "VIRTUAL"
    PHYSICAL = "PHYSICAL"
    METAL = "METAL"


class Verb(StrEnum):
    """What may be asked of a card; also the name of the audit event."""

    SET_PIN = "pin.set"
    GET_PIN = "pin.get"
    READ_COUNTER = "pin.counter"
    ACTIVATE = "card.activate"


#: The one table of what a card allows, read by every face.
ALLOWED_STATES: Final[Mapping[Verb, frozenset[CardState]]] = {
    Verb.SET_PIN: frozenset({CardState.ACTIVE}),
    Verb.GET_PIN: frozenset({CardState.ACTIVE}),
    Verb.READ_COUNTER: frozenset({CardState.INACTIVE, CardState.ACTIVE, CardState.BLOCKED}),
    Verb.ACTIVATE: frozenset({CardState.INACTIVE, CardState.ACTIVE}),
}

#: How an operator may move a card.
NEXT_STATES: Final[Mapping[CardState, frozenset[CardState]]] = {
    CardState.INACTIVE: frozenset({CardState.ACTIVE, CardState.BLOCKED, CardState.CLOSED}),
    CardState.ACTIVE: frozenset({CardState.BLOCKED, CardState.CLOSED}),
    CardState.BLOCKED: frozenset({CardState.ACTIVE, CardState.CLOSED}),
    CardState.CLOSED: frozenset(),
}

PLASTIC_ID_PATTERN: Final = re.compile("[0-9]{1,38}")


def parse_plastic_id(text: str) -> str | None:
    """Read a plastic id: a number of 1 to 38 digits, returned without leading zeros.

    Returns:
        None: *text* is none.
    """
    return (text.lstrip("0") or "0") if PLASTIC_ID_PATTERN.fullmatch(text) else None


def require_state_allows(verb: Verb, state: CardState) -> None:
    """Let *verb* pass on a card in *state*.

    Raises:
        CardForbids: the table says no.
    """
    if state not in ALLOWED_STATES[verb]:
        raise CardForbids
