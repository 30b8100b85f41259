"""Refusals of who may not see or set a PIN, told of in the vault's log."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from hsm.errors import BearerRefused, EvidenceRefused, GrantRefused, LimitReached, StepUpMissing
from hsm.log.writer import VaultLog
from hsm.manifest.model import Manifest
from hsm.port import Face

TOLD: Final = (BearerRefused, StepUpMissing, EvidenceRefused, GrantRefused, LimitReached)


@contextmanager
def telling(
    log: VaultLog,
    manifest: Manifest | None = None,
    face: Face | None = None,
    client_id: str | None = None,
) -> Iterator[None]:
    """Tell *log* of a refusal within, one of :data:`TOLD`, and give the error its receipt.

    Args:
        log: the vault's.
        manifest: that of the issuer; None: what was refused did not tell of which.
        face: where.
        client_id: who asked; written only if *manifest* names it.
    """
    try:
        yield
    except TOLD as error:
        issuer_id = None if manifest is None else manifest.issuer_id
        if manifest is None or client_id not in manifest.by_client_id:
            client_id = None
        error.receipt = log.refuse(type(error).__name__, issuer_id, face, client_id)
        raise
