"""JWEs and JWTs with the EC keys of the HSM token."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
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
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import KeyKind, KeyLabel, KeyRole, Usage

NO_KIDS: Final[Mapping[str, int]] = {}


class JoseKeys:
    """The EC keys of a keyring.

    A ``kid`` is a JWK thumbprint (RFC 7638), or what an issuer's wire profile calls a key. Every
    method may raise ``VaultUnavailable``: the HSM token does not answer.

    Args:
        hsm_token: the HSM token that has the private keys.
        keyring: names those keys, and says which of them open.
        note_use: is told of each JWE that a key opened.
    """

    def __init__(
        self,
        hsm_token: HsmToken,
        keyring: Keyring,
        note_use: Callable[[KeyLabel], None] = lambda _: None,
    ) -> None:
        self._hsm_token = hsm_token
        self._keyring = keyring
        self._note_use = note_use
        self._found: Sequence[KeyLabel] = ()
        self._keys: Mapping[KeyLabel, EcPublicKey] = {}
        self._labels: Mapping[str, KeyLabel] = {}

    @property
    def _public(self) -> Mapping[KeyLabel, EcPublicKey]:
        """The public halves; read anew when the keyring has looked for its keys."""
        found = self._keyring.labels
        if found is not self._found:
            self._keys = {
                label: _named_by_thumbprint(self._hsm_token.public_point(label))
                for label in found
                if label.role.kind is KeyKind.EC_P256
            }
            self._labels = {key.kid: label for label, key in self._keys.items()}
            self._found = found
        return self._keys

    @property
    def _by_kid(self) -> Mapping[str, KeyLabel]:
        _ = self._public
        return self._labels

    def public_key(self, label: KeyLabel) -> EcPublicKey:
        """Return the public half of a key."""
        return self._public[label]

    def public_jwks(
        self, role: KeyRole, own_kids: Mapping[str, int] = NO_KIDS
    ) -> Mapping[str, list[dict[str, str]]]:
        """List the public keys of *role* that are in use as a JWK set (RFC 7517, 5), newest first.

        Those that verify are listed when they are loaded, those that are encrypted to when they are
        active. Of role ``page`` that is the active one alone: no page keeps a key. Each has the
        first ``kid`` that *own_kids* has for its generation, or else its thumbprint.
        """
        use = "sig" if role.usage is Usage.SIGN else "enc"
        is_shown = self._keyring.may_open if use == "sig" else self._keyring.is_announced
        labels = [x for x in self._public if x.role is role and is_shown(x)]
        if role is KeyRole.PAGE:
            labels = [self._keyring.active[role]]
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
            role: the role that the recipient's key must have; any generation that opens will do.
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
            role: the role that the recipient's key must have; any generation that opens will do.
            own_kids: what the sender calls our keys, and the generation of each.

        Raises:
            JweError: it is not one to such a key.
            VaultUnavailable: the HSM token does not answer.
        """
        used: list[KeyLabel] = []
        opened = jwe.decrypt(message, partial(self._agree, used, role, own_kids))
        # Of what was opened: a stranger who names a kid uses no key.
        for label in used:
            self._note_use(label)
        return opened

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
        used: list[KeyLabel],
        role: KeyRole,
        own_kids: Mapping[str, int],
        kid: str,
        point: Point,
        other_info: bytes,
    ) -> bytes:
        own = own_kids.get(kid)
        if own is None and kid not in self._by_kid:
            # Another worker may have told a page of a key that is new.
            self._keyring.follow()
        label = self._by_kid.get(kid) if own is None else KeyLabel(role, own)
        if label is None or label.role is not role or not self._keyring.may_open(label):
            raise JweError
        used.append(label)
        return self._hsm_token.agree(label, point, other_info)


def _named_by_thumbprint(point: Point) -> EcPublicKey:
    return EcPublicKey(thumbprint(point.x, point.y), point.x, point.y)
