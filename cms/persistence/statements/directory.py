"""What the database knows of an issuer: whether it is in service."""

from typing import Final

from sqlalchemy import select

from cms.persistence.statements import compiled
from cms.persistence.statements.parts import matches
from cms.persistence.tables import issuers

READ_ISSUER: Final = compiled(
    select(issuers.c.state).where(matches(issuers.c.issuer_id, "issuer_id"))
)
"""One row, its state, or none where there is no such issuer."""
