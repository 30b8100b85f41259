"""Manifests on their way to the vaults, which verify them: the database only carries their text."""

from typing import Final

from sqlalchemy import BigInteger, String, Text, and_, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert

from cms.persistence.statements import compiled
from cms.persistence.statements.parts import matches, of_issuer
from cms.persistence.tables import issuers, manifest_hosts, manifests

_VERSION: Final = bindparam("version", type_=BigInteger)
_newest = (
    select(func.max(manifests.c.version))
    .where(manifests.c.issuer_id == issuers.c.issuer_id)
    .scalar_subquery()
)
READ_NEWEST_MANIFESTS: Final = compiled(
    select(issuers.c.issuer_id, func.coalesce(_newest, 0).label("version"))
)
"""A row for each issuer: the version of its newest manifest, 0 where there is none."""

READ_HOST_ANSWERS: Final = compiled(
    select(manifest_hosts.c.issuer_id, manifest_hosts.c.version, manifest_hosts.c.outcome).where(
        matches(manifest_hosts.c.host, "host")
    )
)
"""A row for each issuer of which this host has answered: for which version, and what."""

READ_MANIFEST: Final = compiled(
    select(manifests.c.text).where(and_(of_issuer(manifests), manifests.c.version == _VERSION))
)
"""One row, the text, or none where there is no such version."""

_answer = insert(manifest_hosts).values(
    issuer_id=bindparam("issuer_id", type_=String),
    host=bindparam("host", type_=Text),
    version=_VERSION,
    outcome=bindparam("outcome", type_=Text),
    at=func.now(),
)
ANSWER_MANIFEST: Final = compiled(
    _answer.on_conflict_do_update(
        index_elements=[manifest_hosts.c.issuer_id, manifest_hosts.c.host],
        set_={name: _answer.excluded[name] for name in ("version", "outcome", "at")},
    )
)
"""No row. What this host answers takes the place of its last answer."""
