"""The PINs in the JWEs that our pages send, and the keys to which they want PINs as text."""

from collections.abc import Mapping
from dataclasses import dataclass

from crypto.errors import CryptoError, JwkError, PinLengthError, WeakPinError
from crypto.jose.jwk import EcPublicKey, parse_public, thumbprint
from crypto.pinblock import PinBlockFormat, iso1
from crypto.translation import permit
from crypto.types import Pin, PinBlock
from crypto.weak_pins import PinPolicy, check
from hsm import plaintexts
from hsm.errors import PageKeyRejected, PinRejected, WeakPinRefused
from hsm.grants import Grant
from hsm.jose_keys import JoseKeys
from hsm.pkcs11.keys import KeyRole


@dataclass(frozen=True, slots=True)
class PagePins:
    """Reads what pages send.

    Every method may raise ``VaultUnavailable``: the HSM token does not answer, or lacks a key.
    """

    jose_keys: JoseKeys

    def read(self, jwe: str, grant: Grant, control_token: str, policy: PinPolicy) -> Pin:
        """Take a PIN out of a JWE that the page of *grant* made.

        Raises:
            WeakPinRefused: *policy* forbids it.
            PinRejected: the JWE does not open, or is of another page.
        """
        permit(PinBlockFormat.ISO1, PinBlockFormat.ISO4, same_pan=False)
        try:
            members = self.jose_keys.open_jwe(jwe, KeyRole.PAGE)
            block = PinBlock.from_hex(plaintexts.text_member(members, "block"))
            if not plaintexts.is_of_page(members, grant.grant_id, control_token):
                raise PinRejected
            pin = iso1.decode(block)
            check(pin, policy)
        except (PinLengthError, WeakPinError):
            raise WeakPinRefused from None
        except CryptoError:
            raise PinRejected from None
        return pin

    def read_key(self, jwk: Mapping[str, object]) -> EcPublicKey:
        """Read the key of a page.

        Raises:
            PageKeyRejected: it is no public P-256 key, or one of our own.
        """
        try:
            key = parse_public(jwk)
        except JwkError:
            raise PageKeyRejected from None
        if self.jose_keys.has(key):
            raise PageKeyRejected
        # A kid of the page's choice would show in the length of the JWE.
        return EcPublicKey(thumbprint(key.x, key.y), key.x, key.y)
