"""JWEs and JWTs with the EC keys of the HSM token."""

import hashlib
from collections.abc import Mapping
from functools import partial
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from crypto.errors import JweError
from crypto.jose import json_object, jwe, jws
from crypto.jose.jwe import CompactJwe
from crypto.jose.jwk import EcPublicKey, Point, public_jwk, thumbprint
from crypto.secret import Secret
from hsm.errors import ManifestRefused
from hsm.pkcs11.hsm_token import HsmToken
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole, Usage

NO_KIDS: Final[Mapping[str, int]] = {}


class JoseKeys:
    """The EC keys that were on the HSM token at construction.

    A ``kid`` is a JWK thumbprint (RFC 7638), or what an issuer's wire profile calls a key.

    Args:
        hsm_token: the HSM token that has the private keys.

    Raises:
        VaultUnavailable: at construction, when the HSM token does not answer.
    """

    def __init__(self, hsm_token: HsmToken) -> None:
        self._hsm_token = hsm_token
        self._public = {
            label: _named_by_thumbprint(hsm_token.public_point(label))
            for label in hsm_token.labels()
            if label.role.kind is KeyKind.EC_P256
        }
        self._by_kid = {key.kid: label for label, key in self._public.items()}

    def public_key(self, label: KeyLabel) -> EcPublicKey:
        """Return the public half of a key."""
        return self._public[label]

    def public_jwks(
        self, role: KeyRole, own_kids: Mapping[str, int] = NO_KIDS
    ) -> Mapping[str, list[dict[str, str]]]:
        """List the public keys of *role* as a JWK set (RFC 7517, 5), newest generation first.

        Each has the first ``kid`` that *own_kids* has for its generation, or else its thumbprint.
        """
        use = "sig" if role.usage is Usage.SIGN else "enc"
        labels = (label for label in self._public if label.role is role)
        newest_first = sorted(labels, key=lambda label: label.generation, reverse=True)
        # The first one that is listed: whoever renames a key puts its new name there.
        kids = {generation: kid for kid, generation in reversed([*own_kids.items()])}
        keys = [(label.generation, self._public[label]) for label in newest_first]
        named = [
            EcPublicKey(kids.get(generation, key.kid), key.x, key.y) for generation, key in keys
        ]
        return {"keys": [public_jwk(key, use) for key in named]}

    def has(self, key: EcPublicKey) -> bool:
        """Say whether *key* is one of our own, whatever its ``kid`` is."""
        return thumbprint(key.x, key.y) in self._by_kid

    def check_own_kids(self, role: KeyRole, own_kids: Mapping[str, int]) -> None:
        """Check what an issuer wants to have our keys of *role* called.

        Raises:
            ManifestRefused: one of these keys is not on the HSM token, or its ``kid`` is the
                thumbprint of another.
        """
        for kid, generation in own_kids.items():
            label = KeyLabel(role, generation)
            if label not in self._public:
                raise ManifestRefused(
                    "refused members: wire.jwe.our_kids names a key that is not there"
                )
            if self._by_kid.get(kid, label) != label:
                raise ManifestRefused(
                    "refused members: wire.jwe.our_kids has another key's thumbprint"
                )

    def open_jwe(
        self,
        text: str,
        role: KeyRole,
        extra_members: frozenset[str] = frozenset(),
        own_kids: Mapping[str, int] = NO_KIDS,
    ) -> dict[str, object]:
        """Decrypt a compact JWE and return the JSON object in it.

        Args:
            text: the JWE.
            role: the role that the recipient's key must have; any generation will do.
            extra_members: header members that are ignored, beside those that are always allowed.
            own_kids: what the sender calls our keys, and the generation of each.

        Raises:
            JoseError: it is not a JWE to such a key, or its plaintext is not a JSON object.
            VaultUnavailable: the HSM token does not answer.
        """
        message = jwe.parse(text, extra_members)
        return json_object.parse(self.decrypt(message, role, own_kids).reveal())

    def decrypt(
        self, message: CompactJwe, role: KeyRole, own_kids: Mapping[str, int] = NO_KIDS
    ) -> Secret[bytes]:
        """Decrypt a JWE whose form was read.

        Args:
            message: the JWE.
            role: the role that the recipient's key must have; any generation will do.
            own_kids: what the sender calls our keys, and the generation of each.

        Raises:
            JweError: it is not one to such a key.
            VaultUnavailable: the HSM token does not answer.
        """
        return jwe.decrypt(message, partial(self._agree, role, own_kids))

    def encrypt(self, plaintext: bytes, recipient: EcPublicKey) -> str:
        """Write a compact JWE (ECDH-ES, A256GCM) to *recipient*."""
        ephemeral = ec.generate_private_key(ec.SECP256R1())
        return jwe.encrypt(plaintext, recipient, ephemeral=ephemeral, random=self._hsm_token.random)

    def sign(self, claims: Mapping[str, object], label: KeyLabel, typ: str) -> str:
        """Sign *claims* as an ES256 JWT of type *typ* with the key of a label."""
        signing_input = jws.signing_input(claims, self._public[label].kid, typ)
        digest = hashlib.sha256(signing_input).digest()
        return jws.attach(signing_input, self._hsm_token.sign(label, digest))

    def _agree(
        self,
        role: KeyRole,
        own_kids: Mapping[str, int],
        kid: str,
        point: Point,
        other_info: bytes,
    ) -> bytes:
        own = own_kids.get(kid)
        label = self._by_kid.get(kid) if own is None else KeyLabel(role, own)
        if label is None or label.role is not role:
            raise JweError
        return self._hsm_token.agree(label, point, other_info)


def _named_by_thumbprint(point: Point) -> EcPublicKey:
    return EcPublicKey(thumbprint(point.x, point.y), point.x, point.y)
