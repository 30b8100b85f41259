"""Who may see a PIN, or set one: what the vault takes as evidence of it.

::

    hosted       the cardholder's access token, from an app of the manifest
    pincontrol   the password of an issuer's own server, and the plastic's id
    then         the grant that the vault made for one of these, with its control token

Whoever it is, the card's sealed record must say the same. Every refusal is told of in the vault's
log.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from crypto.secret import Secret
from hsm.bearers import Bearers
from hsm.errors import EvidenceRefused, GrantRefused, TypeNotOffered
from hsm.grants import Grant, Grants
from hsm.log.lines import Action, Event
from hsm.log.refusals import telling
from hsm.log.writer import VaultLog
from hsm.manifest.client_secrets import is_secret
from hsm.manifest.clients import AppClient, ServerClient
from hsm.manifest.model import Manifest
from hsm.manifest.store import Manifests
from hsm.port import CardRef, Face, Purpose, SealedGrant, SealedRecord
from hsm.records import CardRecord
from hsm.seals import PinOf, Seals

#: Who may ask for control tokens, by face.
CLIENTS: Final[Mapping[Face, type[AppClient | ServerClient]]] = {
    Face.HOSTED: AppClient,
    Face.PINCONTROL: ServerClient,
}


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant that is for this, and what it needs beside it."""

    grant: Grant
    manifest: Manifest
    record: CardRecord

    def pin_of(self, counter: int) -> PinOf:
        """Name the PIN of the grant's card after change *counter*."""
        return PinOf(self.record, self.grant.card, counter)

    def event(self, what: Action, counter: int | None = None) -> Event:
        """Tell of what was done; None: with the PIN of the grant's counter."""
        grant = self.grant
        return Event(
            *(what, grant.card.issuer_id, grant.card.card_id, grant.face, grant.client_id),
            grant_id=grant.grant_id,
            counter=grant.counter if counter is None else counter,
        )


@dataclass(frozen=True, slots=True)
class Evidence:
    """Verifies evidence.

    Every method may raise ``SealBroken``: a record is not that of the card; and
    ``VaultUnavailable``: the HSM token does not answer, or lacks a key.
    """

    manifests: Manifests
    seals: Seals
    bearers: Bearers
    grants: Grants
    log: VaultLog
    now: Callable[[], datetime]
    """The time, UTC, by which secrets and control tokens are over or not."""

    def cardholder(self, manifest: Manifest, bearer: Secret[str], *, for_pin: bool) -> str:
        """Return whose access token *bearer* is: the cardholder's id.

        Raises:
            BearerRefused: it is none of the issuer's identity provider, or it is over.
            StepUpMissing: it is *for_pin*, and the authentication is not as the manifest wants it.
        """
        with telling(self.log, manifest, Face.HOSTED):
            verify = self.bearers.subject_for_pin if for_pin else self.bearers.subject
            return verify(bearer, manifest).cardholder_id

    def holder(
        self,
        manifest: Manifest,
        bearer: Secret[str],
        client_id: str,
        card: CardRef,
        sealed_record: SealedRecord,
    ) -> str:
        """Return who holds a card, whose access token an app gave.

        Raises:
            BearerRefused: *bearer* is none of the issuer's identity provider, or it is over.
            StepUpMissing: the authentication is not as the manifest wants it.
            EvidenceRefused: there is no such app, or somebody else holds the card.
        """
        with telling(self.log, manifest, Face.HOSTED, client_id):
            subject = self.bearers.subject_for_pin(bearer, manifest)
            holder = self.seals.open_record(sealed_record, card).holder
            client = manifest.by_client_id.get(client_id)
            if not isinstance(client, AppClient) or subject.cardholder_id != holder:
                raise EvidenceRefused
        return holder

    def plastic(
        self,
        manifest: Manifest,
        user: str,
        secret: Secret[str],
        plastic_id: str,
        card: CardRef,
        sealed_record: SealedRecord,
    ) -> CardRecord:
        """Return the record of a plastic, for an issuer's own server that gave its password.

        Raises:
            EvidenceRefused: there is no such server, or this is not its plastic.
        """
        now = self.now().timestamp()
        with telling(self.log, manifest, Face.PINCONTROL, user):
            server = manifest.by_client_id.get(user)
            if not isinstance(server, ServerClient) or not is_secret(secret, server.secrets, now):
                raise EvidenceRefused
            record = self.seals.open_record(sealed_record, card)
            if record.plastic_id != plastic_id:
                raise EvidenceRefused
        return record

    def granted(
        self,
        grant: SealedGrant,
        control_token: str,
        purpose: Purpose,
        sealed_record: SealedRecord,
    ) -> Granted:
        """Open a grant and the record of its card, and compare both with the manifest in force.

        Raises:
            GrantRefused: it is not for this, or no longer.
            ManifestRefused: its issuer has no manifest that is in force.
        """
        with telling(self.log):
            opened = self.grants.open(grant, control_token, purpose)
        manifest = self.manifests.read(opened.card.issuer_id)
        with telling(self.log, manifest, opened.face, opened.client_id):
            client = manifest.by_client_id.get(opened.client_id)
            if not isinstance(client, CLIENTS[opened.face]):
                raise GrantRefused
            record = self.seals.open_record(sealed_record, opened.card)
            if record.holder != opened.cardholder_id:
                raise GrantRefused
        return Granted(opened, manifest, record)

    def granted_device(
        self,
        grant: SealedGrant,
        control_token: str,
        purpose: Purpose,
        sealed_record: SealedRecord,
    ) -> Granted:
        """Do as :meth:`granted` at the pincontrol face, for what begins no page session.

        Raises:
            GrantRefused: the grant is not for this, or its control token is over.
            ManifestRefused: its issuer has no manifest that is in force.
            TypeNotOffered: the issuer has no PKI on.
        """
        granted = self.granted(grant, control_token, purpose, sealed_record)
        opened, manifest = granted.grant, granted.manifest
        with telling(self.log, manifest, opened.face, opened.client_id):
            is_over = self.now().timestamp() >= opened.token_ends_at
            if opened.face is not Face.PINCONTROL or is_over:
                raise GrantRefused
        if not manifest.pin_operations.pki:
            raise TypeNotOffered
        return granted
