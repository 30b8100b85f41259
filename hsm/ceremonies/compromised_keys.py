"""Shared keys that were compromised are not brought in again for their issuer, in whatever role.

They are told by the KCV. The table of key generations has that of a key from when it is called
compromised, so that it is known when the key is destroyed, too.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

from pydantic import ValidationError

from hsm.ceremonies import import_tokens
from hsm.errors import CeremonyError, HsmError
from hsm.manifest.generation_table import GenerationTable, State
from hsm.pkcs11 import fingerprints, own_keys
from hsm.pkcs11.keys import KeyLabel
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings


def require_other(
    key: ClearKey, issuer_id: str, table: GenerationTable, hsm_tokens: Sequence[Pkcs11Token]
) -> None:
    """Let a key pass that is none of the issuer's that *table* calls compromised, or did.

    Args:
        key: that is to be imported.
        issuer_id: whose.
        table: of this machine.
        hsm_tokens: where the compromised one may still be.

    Raises:
        CeremonyError: it is one of them.
    """
    if key.kcv in {*_compromised(issuer_id, table, hsm_tokens)}:
        raise CeremonyError("a key of this KCV was compromised: no key was stored, ask for another")


def _compromised(
    issuer_id: str, table: GenerationTable, hsm_tokens: Sequence[Pkcs11Token]
) -> Iterator[str]:
    for text, one in table.generations.items():
        label = KeyLabel.parse(text)
        if label.issuer_id != issuer_id:
            continue
        if one.kcv is not None:
            yield one.kcv
        elif one.state is State.COMPROMISED:
            yield from _kcvs(label, hsm_tokens)


def kcvs_on_token(labels: Sequence[KeyLabel]) -> Mapping[KeyLabel, str]:
    """Return the KCVs of those keys that are on the HSM token of the environment.

    And on that for imports. None of one that does not answer: no key stays in use for that.
    """
    hsm_tokens: list[Pkcs11Token] = []
    with suppress(HsmError, ValidationError):
        settings = HsmTokenSettings()
        # What its module cannot do any more is no reason not to ask.
        hsm_tokens.append(Pkcs11Token.open(settings, probing=True))
        hsm_tokens.append(import_tokens.beside(hsm_tokens[0], settings))
    found: dict[KeyLabel, str] = {}
    for label in labels:
        with suppress(HsmError):
            found.update((label, kcv) for kcv in _kcvs(label, hsm_tokens))
    return found


def _kcvs(label: KeyLabel, hsm_tokens: Sequence[Pkcs11Token]) -> Iterator[str]:
    for hsm_token in hsm_tokens:
        if label in hsm_token.labels():
            kcv = own_keys.report(hsm_token, label).fingerprint
            if kcv != fingerprints.NO_FINGERPRINT:
                yield kcv
