"""Who takes part in a key ceremony, and that they are different people.

A custodian is somebody whom the trust file of the import machine names (:mod:`hsm.manifest.trust`),
with a private key in a file that has a passphrase (:mod:`hsm.manifest.operator_key`). Each session
begins with a challenge of the ceremony, which the key signs; at the end each reads the record and
signs that.

All sessions are in one process, which holds what was typed and hands the terminal over. Why not on
the HSM token between sessions: to XOR a component there takes ``CKM_XOR_BASE_AND_DATA``, which
SoftHSM2 and many devices do not have, or only for generic secrets, and a component that waits there
could be used, and found out byte by byte by XOR with chosen data, by whoever has the login. A
process that ends, for whatever reason, leaves nothing.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from crypto.jose.jws_json import SignedText
from crypto.secret import Secret
from hsm.ceremonies.ceremony_record import RECORD_TYPE, CeremonyRecord
from hsm.command_line import passphrase_of
from hsm.errors import CeremonyError, ManifestRefused
from hsm.manifest.body import canonical_body
from hsm.manifest.operator_key import OperatorKey
from hsm.manifest.trust import Operator, Trust

CHALLENGE_TYPE: Final = "key-ceremony-challenge+jws"
CUSTODIANS_MIN: Final = 2

Passphrase: TypeAlias = Callable[[], Secret[str]]


class Custodians:
    """Those who take part in one ceremony, in the order in which they came."""

    def __init__(self, trust: Trust, ceremony_id: str, issuer_id: str | None) -> None:
        self._trust = trust
        self._ceremony_id = ceremony_id
        self._issuer_id = issuer_id
        self.present: list[Operator] = []

    def admit(self, file: Path, passphrase: Passphrase) -> Operator:
        """Let the custodian whose key is in *file* take part; *passphrase* opens it.

        Raises:
            CeremonyError: the key is not one of a custodian of this issuer; its custodian took
                part already; or the file has no passphrase, outside a sandbox.
            ManifestRefused: the file cannot be read, or the passphrase is wrong.
        """
        asked: list[bool] = []

        def ask() -> Secret[str]:
            asked.append(True)
            return passphrase()

        key = OperatorKey.read(file, ask)
        if not (asked or self._trust.sandbox):
            raise CeremonyError("the file of a custodian's key must have a passphrase")
        number = len(self.present) + 1
        challenge = canonical_body({"ceremony_id": self._ceremony_id, "session": number})
        answer = SignedText(challenge, (key.sign(challenge, CHALLENGE_TYPE),))
        found = self._trust.signing_custodians(answer, CHALLENGE_TYPE, self._issuer_id)
        if not found:
            raise CeremonyError("this is not the key of a custodian of the issuer")
        if found[0].key.kid in {one.key.kid for one in self.present}:
            raise CeremonyError("this custodian took part already")
        self.present.append(found[0])
        return found[0]

    def sign(self, record: CeremonyRecord, files: Sequence[Path]) -> SignedText:
        """Show *record*, and have everybody who took part sign it.

        Args:
            record: of what is done next.
            files: their keys, in the order in which they came.

        Raises:
            CeremonyError: a file has another key now.
            ManifestRefused: a file cannot be read, or the passphrase is wrong; or somebody whom the
                record names did not sign.
        """
        for line in record.lines():
            print(line)
        payload, signatures = record.canonical(), []
        for custodian, file in zip(self.present, files, strict=True):
            key = OperatorKey.read(file, partial(_asked, custodian, file))
            if key.public.kid != custodian.key.kid:
                raise CeremonyError("this is the key of somebody else: no key was stored")
            signatures.append(key.sign(payload, RECORD_TYPE))
        signed = SignedText(payload, signatures)
        require_signed(self._trust, record, signed)
        return signed


def _asked(custodian: Operator, file: Path) -> Secret[str]:
    print(f"{custodian.name!a} signs this record with", flush=True)
    return passphrase_of(file)


def require_signed(trust: Trust, record: CeremonyRecord, document: SignedText) -> None:
    """Let a record pass that everybody whom it names has signed, as custodians of its issuer.

    Raises:
        ManifestRefused: somebody has not, is not one in this trust file, or it names fewer than
            two.
    """
    signers = trust.signing_custodians(document, RECORD_TYPE, record.issuer_id)
    named = {one.thumbprint for one in record.custodians}
    if len(named) < CUSTODIANS_MIN or not named <= {one.key.kid for one in signers}:
        raise ManifestRefused("not signed by every custodian whom it names")
