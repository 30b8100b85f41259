"""What the service knows of an issuer: its clients and its configuration."""

from typing import Any, Final

from sqlalchemy import (
    LargeBinary,
    String,
    Text,
    bindparam,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import array, distinct_on

from cms.persistence.statements import compiled
from cms.persistence.statements.parts import matches
from cms.persistence.tables import clients, issuers, vault_config

READ_ISSUER: Final = compiled(
    select(issuers.c.state).where(matches(issuers.c.issuer_id, "issuer_id"))
)
"""One row, its state, or none where there is no such issuer."""

_PREVIOUS_SECRET: Final = case(
    (clients.c.previous_secret_until > func.now(), clients.c.previous_secret_hash)
)
#: Of the secrets that are valid now: one, two while one takes over from another, or none.
_SECRET_HASHES: Final = func.array_remove(
    array[Any]([clients.c.secret_hash, _PREVIOUS_SECRET], type_=LargeBinary), null()
)
_IN_SERVICE: Final = clients.c.state == literal("active", String)
READ_CLIENTS: Final = compiled(
    select(
        clients.c.client_id,
        clients.c.auth,
        _SECRET_HASHES.label("secret_hashes"),
        clients.c.certificate_subjects,
        clients.c.redirect_origins,
        clients.c.embed_origins,
        clients.c.failure_image_status,
        clients.c.frame_key,
        clients.c.show_button,
        clients.c.hide_seconds,
        clients.c.view_style,
        clients.c.language,
    ).where(matches(clients.c.issuer_id, "issuer_id"), _IN_SERVICE)
)
"""A row for each client in service, in the order of :class:`cms.domain.records.Client`."""

IS_ORIGIN: Final = compiled(
    select(
        exists()
        .where(
            clients.c.auth == literal("public", String),
            _IN_SERVICE,
            or_(
                bindparam("origin", type_=Text) == func.any(clients.c.redirect_origins),
                bindparam("origin", type_=Text) == func.any(clients.c.embed_origins),
            ),
        )
        .label("is_origin")
    )
)
"""One row: whether an app in service, of whichever issuer, registered this origin."""

_IS_VALID: Final = vault_config.c.valid_until > func.now()
CONFIG_NOW: Final = (
    select(
        vault_config.c.issuer_id,
        vault_config.c.kind,
        vault_config.c.version,
        vault_config.c.valid_from,
        vault_config.c.valid_until,
        vault_config.c.key_label,
        vault_config.c.body,
        vault_config.c.cmac,
    )
    .ext(distinct_on(vault_config.c.kind))
    .where(matches(vault_config.c.issuer_id, "issuer_id"), vault_config.c.valid_from <= func.now())
    .order_by(
        vault_config.c.kind,
        _IS_VALID.desc(),
        case((_IS_VALID, vault_config.c.version)).desc(),
        vault_config.c.valid_from.desc(),
        vault_config.c.version.desc(),
    )
)
"""The newest version of each kind that is valid now, else the one that started last and lapsed.

The vault refuses one that lapsed. Left out, it would pass for one that the issuer never had, and
PINs would be set without the verification values that it asks for.
"""
READ_CONFIG: Final = compiled(CONFIG_NOW)
