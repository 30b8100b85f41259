"""What the database knows of issuers: who they are, and whether they are in service."""

from typing import Final

from sqlalchemy import select

from cms.persistence.statements import compiled
from cms.persistence.statements.parts import of_issuer
from cms.persistence.tables import issuers

READ_ISSUER: Final = compiled(select(issuers.c.state).where(of_issuer(issuers)))
"""One row, its state, or none where there is no such issuer."""

READ_ISSUER_IDS: Final = compiled(select(issuers.c.issuer_id))
"""A row for each issuer."""
