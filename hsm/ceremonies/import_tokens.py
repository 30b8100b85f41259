"""The HSM token that opens key blocks: a second one, whose login no machine that serves has.

A block-protection key makes the keys that open a block by CMACs alone, so that whoever may use it
for anything can open every block under it that was ever captured. On a second HSM token it is out
of reach for the login that serves. What a block holds is imported into the first HSM token; the
process of the ceremony is logged in at both.
"""

from collections.abc import Iterable, Sequence

from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings, ImportTokenSettings


def beside(hsm_token: Pkcs11Token, settings: HsmTokenSettings) -> Pkcs11Token:
    """Open the HSM token for imports; where none is named, it is *hsm_token*.

    Raises:
        CeremonyError: what is named is the same HSM token.
        VaultUnavailable: it does not answer.
        ValidationError: not all of it is named.
    """
    named = ImportTokenSettings.beside(settings)
    if named is None:
        return hsm_token
    # It has none of our own keys, and need not do what those need.
    return Pkcs11Token.open(named, writable=True, probing=True, beside=hsm_token)


def misplaced(labels: Iterable[KeyLabel]) -> Sequence[KeyLabel]:
    """Name the keys that open key blocks, of those on the HSM token that serves."""
    return sorted((one for one in labels if one.role is KeyRole.BLOCK_PROTECTION), key=str)
