"""What an authorisation host asks of scripts, and what it is answered.

Each is a JSON object::

    {"call": "build", "issuerId": "…", "cardId": "…", "counter": 7, "atc": "0A01", "arqc": "…"}
    {"issuerId": "…", "cardId": "…", "counter": 7, "state": "built", "command": "8424…"}

    {"call": "delivered", "issuerId": "…", "cardId": "…", "counter": 7}
    {"issuerId": "…", "cardId": "…", "counter": 7, "state": "delivered"}

``confirmed`` is as ``delivered``. ``reverse`` names the change that is reversed, and is answered
with the counter of the change that reverses it, and ``pending``; so it is when it is sent again.
Bytes are hexadecimal.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from cms.domain.cards import Verb
from cms.domain.scripts import ScriptState
from cms.operator.command_line import Refused
from cms.persistence import admin, card_scripts
from cms.persistence.admin import Database
from cms.services.audit import Reason
from crypto.errors import JoseError
from crypto.jose import json_object
from hsm.admin_client import AdminCalls
from hsm.errors import LimitReached, SealBroken
from hsm.messages import BuildScript, ReversePin
from hsm.port import CardRef, ChipTransaction

Answer: TypeAlias = Mapping[str, str | int]


class ScriptCall(BaseModel):
    """A call. Of ``build`` are *atc*, tag 9F36, and *arqc*, tag 9F26."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        alias_generator=to_camel,
    )

    call: Literal["build", "delivered", "confirmed", "reverse"]
    issuer_id: str
    card_id: str
    counter: Annotated[int, Field(ge=1, lt=1 << 63)]
    atc: Annotated[str, Field(pattern="^[0-9A-Fa-f]{4}$")] | None = None
    arqc: Annotated[str, Field(pattern="^[0-9A-Fa-f]{16}$")] | None = None

    @property
    def card(self) -> CardRef:
        """The card.

        Raises:
            Refused: no card can have such a name.
        """
        try:
            return CardRef(self.issuer_id, self.card_id)
        except ValueError:
            raise Refused("no such card") from None

    @property
    def transaction(self) -> ChipTransaction:
        """The transaction in whose answer the script goes.

        Raises:
            Refused: it is not given.
        """
        if self.atc is None or self.arqc is None:
            raise Refused("a script is built for an ATC and an ARQC")
        return ChipTransaction(bytes.fromhex(self.atc), bytes.fromhex(self.arqc))


def parse_call(text: str) -> ScriptCall:
    """Read a call from a JSON object.

    Raises:
        Refused: *text* is none; names the members at fault.
    """
    try:
        return read_call(json_object.parse(text.encode()))
    except (JoseError, UnicodeEncodeError):
        raise Refused("not a JSON object") from None


def read_call(members: Mapping[str, object]) -> ScriptCall:
    """Read a call from its members.

    Raises:
        Refused: they are none of a call; names those at fault.
    """
    try:
        return ScriptCall.model_validate(members)
    except ValidationError as error:
        faults = {str(item["loc"][0]) for item in error.errors()}
        raise Refused("refused members: " + ", ".join(sorted(faults))) from None


def answer(database: Database, vault: AdminCalls, call: ScriptCall) -> Answer:
    """Do what a call asks, for good.

    Raises:
        AdminError: the script, or its card, does not allow it.
        HsmError: the vault does not do it, or is unavailable.
        Refused: the call lacks something.
    """
    card, counter = call.card, call.counter
    if call.call == "build":
        return _build(database, vault, card, counter, call.transaction)
    if call.call == "reverse":
        return _reverse(database, vault, card, counter)
    then = ScriptState(call.call)
    card_scripts.move(database, card, counter, then)
    database.commit()
    return _answer(card, counter, then)


def _build(
    database: Database,
    vault: AdminCalls,
    card: CardRef,
    counter: int,
    transaction: ChipTransaction,
) -> Answer:
    script = card_scripts.read_to_build(database, card, counter)
    database.commit()  # no transaction waits for the vault
    message = BuildScript(script.sealed_pin, script.sealed_record, card, counter, transaction)
    try:
        handed_out = vault.call(message)
    except LimitReached as error:
        reason = Reason.LIMIT_REACHED
        card_scripts.note_not_built(database, script, "refused", reason, error.receipt)
        raise
    except SealBroken:
        card_scripts.note_not_built(database, script, "failed", Reason.SEAL_BROKEN)
        raise
    # First the record, for good: nothing is handed out of which there is none.
    card_scripts.note_built(database, script, handed_out.receipt)
    command = handed_out.value.hex().upper()
    return {**_answer(card, counter, ScriptState.BUILT), "command": command}


def _reverse(database: Database, vault: AdminCalls, card: CardRef, counter: int) -> Answer:
    # The host may not have got the answer, and send the call again.
    done = card_scripts.reversal_of(database, card, counter)
    if done is not None:
        return _answer(card, done, ScriptState.PENDING)
    script = card_scripts.read_to_build(database, card, counter)
    database.commit()  # as above
    earlier = script.sealed_earlier_pin
    if earlier is None:
        raise Refused("there is no PIN from before to put back")
    message = ReversePin(script.sealed_pin, earlier, script.sealed_record, card, counter)
    try:
        change = vault.call(message)
    except LimitReached as error:
        card_scripts.note_not_reversed(database, script, Reason.LIMIT_REACHED, error.receipt)
        raise
    except SealBroken:
        admin.audit_failed(database, card, Verb.SET_PIN.value, Reason.SEAL_BROKEN)
        database.commit()
        raise
    after = card_scripts.reverse(database, script, change)
    database.commit()
    return _answer(card, after, ScriptState.PENDING)


def _answer(card: CardRef, counter: int, state: ScriptState) -> dict[str, str | int]:
    return {
        "issuerId": card.issuer_id,
        "cardId": card.card_id,
        "counter": counter,
        "state": state.value,
    }
