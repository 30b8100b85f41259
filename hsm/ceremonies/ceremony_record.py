"""The record of a key ceremony: who, what, when, KCVs and thumbprints. It names no secret.

A file: a JWS (general serialization) whose payload is the record in canonical form
(:mod:`hsm.manifest.body`), with one ES256 signature of each custodian who took part. The vault's
log has SHA-256 of the payload (:attr:`hsm.log.lines.Event.record`).
"""

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from pydantic import AwareDatetime

from crypto.jose.jws_json import SignedText
from hsm import directories
from hsm.errors import CeremonyError
from hsm.manifest import signed
from hsm.manifest.body import Body, canonical_body, parse_body
from hsm.manifest.documents import read_text
from hsm.manifest.trust import Operator
from hsm.pkcs11.device_info import DeviceInfo

RECORD_TYPE: Final = "key-ceremony+jws"
"""``typ`` of the signatures."""
Action: TypeAlias = Literal[
    "import-components", "import-block", "make-key", "ceremony", "destroy-key"
]
"""Which command held the ceremony."""


class RecordedCustodian(Body):
    """Somebody who took part."""

    name: str
    thumbprint: str


class RecordedComponent(Body):
    """A component, and who typed it."""

    number: int
    custodian: str
    kcv: str
    typed_at: AwareDatetime


class RecordedKey(Body):
    """A key that was stored, or destroyed; *fingerprint* is its KCV, or an EC key's thumbprint."""

    label: str
    kind: str
    fingerprint: str


class RecordedBlock(Body):
    """A key block that was opened, or written: all but its key."""

    header: str
    optional_blocks: tuple[str, ...]
    protected_by: str
    sha256: str


class RecordedToken(Body):
    """The HSM token, as the module describes it."""

    label: str
    serial: str
    manufacturer: str
    model: str


class CeremonyRecord(Body):
    """What custodians sign."""

    ceremony_id: str
    action: Action
    issuer_id: str | None
    hsm_token: RecordedToken
    began_at: AwareDatetime
    ended_at: AwareDatetime
    custodians: tuple[RecordedCustodian, ...]
    components: tuple[RecordedComponent, ...] = ()
    block: RecordedBlock | None = None
    keys: tuple[RecordedKey, ...]

    def canonical(self) -> bytes:
        """Write it as the bytes that are signed."""
        return canonical_body(self.model_dump(mode="json"))

    @property
    def sha256(self) -> str:
        """SHA-256 of these bytes, hexadecimal, as the vault's log has it."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def lines(self) -> Iterator[str]:
        """Write it for people: a line for each thing, to be shown and printed."""
        token = self.hsm_token
        yield f"key ceremony   {self.ceremony_id}, {self.action}"
        yield f"issuer         {'none' if self.issuer_id is None else ascii(self.issuer_id)}"
        named = ", ".join(map(ascii, (token.label, token.manufacturer, token.model, token.serial)))
        yield f"HSM token      {named}"
        yield f"began          {self.began_at.isoformat(timespec='seconds')}"
        yield f"ended          {self.ended_at.isoformat(timespec='seconds')}"
        for custodian in self.custodians:
            yield f"custodian      {custodian.name!a}, key {custodian.thumbprint}"
        for one in self.components:
            at = one.typed_at.isoformat(timespec="seconds")
            yield f"component {one.number}    KCV {one.kcv}, typed by {one.custodian!a} at {at}"
        if self.block is not None:
            yield f"key block      {self.block.header}, under {self.block.protected_by}"
            for text in self.block.optional_blocks:
                yield f"  optional     {text}"
            yield f"  SHA-256      {self.block.sha256}"
        for key in self.keys:
            yield f"key            {key.label}, {key.kind}, {key.fingerprint}"
        yield f"SHA-256        {self.sha256}"


def described(device: DeviceInfo) -> RecordedToken:
    """Name the HSM token."""
    return RecordedToken(
        label=device.label,
        serial=device.serial,
        manufacturer=device.manufacturer,
        model=device.model,
    )


def custodians(present: Sequence[Operator]) -> tuple[RecordedCustodian, ...]:
    """Name those who took part."""
    return tuple(RecordedCustodian(name=one.name, thumbprint=one.key.kid) for one in present)


def read(path: Path) -> tuple[CeremonyRecord, SignedText]:
    """Read a record; no signature is checked.

    Raises:
        ManifestRefused: the file cannot be read, or is no record.
    """
    document = signed.parse(read_text(path))
    return parse_body(CeremonyRecord, document.payload), document


def require_new(*paths: Path) -> None:
    """Refuse files that could not be written in the end, before anything is done.

    Raises:
        CeremonyError: one is there, two are the same, or a directory is missing or cannot be
            written.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise CeremonyError("two files that are to be written are the same")
    for path in paths:
        if os.path.lexists(path):
            raise CeremonyError("the file that is to be written is there already")
        if not (path.parent.is_dir() and os.access(path.parent, os.W_OK | os.X_OK)):
            raise CeremonyError("a new file cannot be written: its directory cannot be")


def write_new(path: Path, text: str) -> None:
    """Write a new file of mode 0600, whose name and text survive a loss of power.

    Raises:
        CeremonyError: there is one already, or it cannot be written; then nothing of it stays.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(file, "w", encoding="ascii") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            directories.sync(path.parent)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except OSError:
        raise CeremonyError("a new file cannot be written: no key was stored") from None


@contextmanager
def written(texts: Mapping[Path, str]) -> Iterator[None]:
    """Write new files as :func:`write_new` does; delete them if what is done within fails.

    Raises:
        CeremonyError: one is there already, or cannot be written; then none stays.
    """
    with ExitStack() as undone:
        for path, text in texts.items():
            write_new(path, text)
            undone.callback(path.unlink, missing_ok=True)
        yield
        undone.pop_all()
