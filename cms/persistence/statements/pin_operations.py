"""What the PIN operations of the pincontrol face change: PINs from blocks, keys of devices."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    LargeBinary,
    String,
    Text,
    and_,
    bindparam,
    exists,
    func,
    literal,
    not_,
    null,
    select,
)

from cms.domain.control import EndReason
from cms.persistence.statements import compiled
from cms.persistence.statements.control_token import (
    IS_NOT_PERSONALISED,
    IS_OF_LOCKED_CARD,
    THIS_CONTROL_TOKEN,
    THIS_LIVE_ONE,
    is_usable,
)
from cms.persistence.statements.parts import audit, change_pin
from cms.persistence.tables import cards, control_tokens
from hsm.port import Face, Purpose

KEY_MADE: Final = "control.key"
"""The audit event: a device got a key."""

_AUDIT_USER: Final = bindparam("audit_user", type_=Text)
_SETS_A_PIN: Final = and_(
    control_tokens.c.purpose == Purpose.SET.value,
    control_tokens.c.face == Face.PINCONTROL.value,
)

_keyed: Final = (
    control_tokens.update()
    .where(THIS_LIVE_ONE, _SETS_A_PIN)
    .values(sealed_tzpk=bindparam("sealed_tzpk", type_=LargeBinary))
    .returning(control_tokens.c.issuer_id, control_tokens.c.card_id, control_tokens.c.counter)
    .cte("keyed")
)
KEEP_TZPK: Final = compiled(
    select(_keyed.c.counter).add_cte(
        audit(KEY_MADE, _keyed, counter=_keyed.c.counter, audit_user=_AUDIT_USER)
    )
)
"""One row if the control token is live and sets a PIN."""

READ_TZPK: Final = compiled(
    select(control_tokens.c.sealed_tzpk).where(
        THIS_LIVE_ONE, _SETS_A_PIN, control_tokens.c.sealed_tzpk.is_not(None)
    )
)
"""One row if the control token is live and sets a PIN, and a device has a key for it."""

END_CONTROL_TOKEN: Final = compiled(
    control_tokens.update()
    .where(THIS_CONTROL_TOKEN, is_usable(control_tokens))
    .values(ended_at=func.now(), end_reason=EndReason.FAILED.value, sealed_tzpk=null())
)
"""No row. One that is over stays as it is. The key of a device goes with it."""

_token: Final = (
    select(control_tokens.c.token_hash)
    .where(
        IS_OF_LOCKED_CARD,
        THIS_CONTROL_TOKEN,
        is_usable(control_tokens),
        control_tokens.c.counter == bindparam("counter_read", type_=BigInteger),
        _SETS_A_PIN,
        IS_NOT_PERSONALISED,
    )
    .with_for_update()
    .cte("token")
)
_from_device, _with_device = change_pin(
    exists(select(_token.c.token_hash)),
    reason=literal("pincontrol pki", String),
    audit_user=_AUDIT_USER,
)
_consumed: Final = (
    control_tokens.update()
    .where(THIS_CONTROL_TOKEN, exists(select(_from_device.c.counter)))
    .values(
        consumed_at=func.now(),
        ended_at=func.now(),
        end_reason=EndReason.SET.value,
        sealed_tzpk=null(),
    )
    .cte("consumed")
)
CHANGE_PIN_FROM_DEVICE: Final = compiled(
    select(_from_device.c.counter).add_cte(*_with_device, _consumed)
)
"""One row, the new counter, if the control token is live, and the card still as it was read.

Else none, and no change. The control token is over, and its device's key gone; the new counter ends
all others of the card.
"""

_from_server, _with_server = change_pin(
    not_(cards.c.personalised),
    reason=literal("pincontrol pre-shared key", String),
    audit_user=_AUDIT_USER,
)
CHANGE_PIN_FROM_SERVER: Final = compiled(select(_from_server.c.counter).add_cte(*_with_server))
"""One row, the new counter, if the card is still as it was read and not personalised; else none."""
