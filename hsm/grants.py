"""Grants: what a control token is good for, as the vault found out before it made the token.

A sealed grant::

    01 | n | key label, n bytes | body | CMAC 16

The body has these parts, each behind its length (:func:`hsm.sealed.length_prefixed`)::

    issuer id, card id, client id
    face, purpose
    counter       8, big-endian
    expires at    8, big-endian: seconds since 1970
    grant id      16 random bytes
    token digest  32: SHA-256 of the control token
    cardholder    the cardholder's id; empty: nobody holds the card

The CMAC, by the key of the label, is over ``grant``, the label and the body. Whoever holds the
grant without the control token holds nothing.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hmac import compare_digest
from typing import Final

from crypto import control_tokens
from crypto.jose import base64url
from hsm.errors import GrantRefused, KeyNotInUse, SealBroken
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import (
    LIFE_SECONDS,
    SESSION_SECONDS_MAX,
    CardRef,
    Face,
    GrantedToken,
    Purpose,
    SealedGrant,
)
from hsm.sealed import Envelope, length_prefixed, pack, unpack

GRANT_ID_BYTES: Final = 16
CLOCK_SKEW_SECONDS: Final = 60
"""By so much the database's clock, by which control tokens end, may be behind the vault's."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a control token is good for, while it is."""

    grant_id: str
    """16 random bytes as base64url."""
    card: CardRef
    client_id: str
    face: Face
    purpose: Purpose
    counter: int
    """The card's change counter when the control token was made."""
    cardholder_id: str
    """Who held the card then; empty: nobody."""
    expires_at: int
    """Seconds since 1970."""

    @property
    def token_ends_at(self) -> int:
        """When it is over for what begins no page session; seconds since 1970."""
        return self.expires_at - SESSION_SECONDS_MAX


@dataclass(frozen=True, slots=True)
class Grants:
    """Makes control tokens with their grants, and opens these.

    Every method may raise ``VaultUnavailable``: the HSM token does not answer, or lacks the key.
    """

    hsm_token: HsmToken
    """Makes random bytes."""
    keyring: Keyring
    """Names the active key of role ``grant-mac``, and says which others open."""
    now: Callable[[], datetime]
    """The time, UTC."""

    def issue(
        self,
        face: Face,
        client_id: str,
        purpose: Purpose,
        card: CardRef,
        counter: int,
        cardholder_id: str,
    ) -> GrantedToken:
        """Make a control token and its grant.

        The grant ends when the longest session could that begins in the last second of the control
        token's life. When a control token and a session end is for the database to say.
        """
        random = self.hsm_token.random(control_tokens.RANDOM_BYTES)
        control_token = control_tokens.make(card.issuer_id, random)
        grant_id = self.hsm_token.random(GRANT_ID_BYTES)
        life_seconds = LIFE_SECONDS[face] + SESSION_SECONDS_MAX + CLOCK_SKEW_SECONDS
        body = length_prefixed(
            card.issuer_id.encode(),
            card.card_id.encode(),
            client_id.encode(),
            face.encode(),
            purpose.encode(),
            counter.to_bytes(8),
            (self._seconds() + life_seconds).to_bytes(8),
            grant_id,
            digest(control_token),
            cardholder_id.encode(),
        )
        label = self.keyring.active[KeyRole.GRANT_MAC]
        cmac = self.keyring.mac(label, _mac_input(label, body))
        sealed = SealedGrant(pack(Envelope(label, body, cmac)))
        return GrantedToken(control_token, sealed, base64url.encode(grant_id))

    def open(self, sealed: SealedGrant, control_token: str, purpose: Purpose) -> Grant:
        """Open a grant.

        Raises:
            GrantRefused: it was not made here, for this control token and purpose, or it is over.
        """
        try:
            envelope = unpack(sealed, KeyRole.GRANT_MAC)
            label, body = envelope.label, envelope.body
            cmac = self.keyring.mac(label, _mac_input(label, body))
        except (KeyNotInUse, SealBroken):
            raise GrantRefused from None
        if not compare_digest(cmac, envelope.cmac):
            raise GrantRefused
        issuer_id, card_id, client_id, face, made_for, *rest = _parts(body)
        counter, expires_at, grant_id, token_digest, cardholder_id = rest
        if not compare_digest(token_digest, digest(control_token)):
            raise GrantRefused
        expires_at_seconds = int.from_bytes(expires_at)
        if made_for != purpose.encode() or self._seconds() >= expires_at_seconds:
            raise GrantRefused
        return Grant(
            base64url.encode(grant_id),
            CardRef(issuer_id.decode(), card_id.decode()),
            client_id.decode(),
            Face(face.decode()),
            purpose,
            int.from_bytes(counter),
            cardholder_id.decode(),
            expires_at_seconds,
        )

    def _seconds(self) -> int:
        return int(self.now().timestamp())


def digest(control_token: str) -> bytes:
    """Return SHA-256 of a control token, whatever was sent as one."""
    return hashlib.sha256(control_token.encode(errors="surrogatepass")).digest()


def _mac_input(label: KeyLabel, body: bytes) -> bytes:
    return length_prefixed(b"grant", str(label).encode(), body)


def _parts(body: bytes) -> Iterator[bytes]:
    """Take apart what :func:`length_prefixed` joined."""
    while body:
        end = 4 + int.from_bytes(body[:4])
        yield body[4:end]
        body = body[end:]
