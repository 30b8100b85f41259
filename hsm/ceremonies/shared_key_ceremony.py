"""A ceremony in which custodians bring one shared key onto the HSM token.

Its order is such that an end of the process, at any moment, leaves no key without a record::

    prepare       what can fail without a secret: HSM token, log, files
    sessions      each custodian proves who they are; some type a component
    record        shown, and signed by all of them
    written       the record's file, that of a key block, and the log's line that names the record
    stored        the key

What was written is deleted if a step before the log's line fails. After it, a record, and the file
of a key block, without their key are possible, when the last step fails: then the ceremony is held
again. So they are when the process is killed, or the machine loses power, from "written" on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Self

from crypto import keyblock
from crypto.keyblock import HEADER_CHARS, KeyAlgorithm, KeyBlockHeader, OptionalBlock
from hsm import generations, signals
from hsm.ceremonies import ceremony_record, compromised_keys, import_tokens
from hsm.ceremonies.ceremony_log import CeremonyLog
from hsm.ceremonies.ceremony_record import (
    Action,
    CeremonyRecord,
    RecordedBlock,
    RecordedComponent,
    RecordedKey,
)
from hsm.ceremonies.custodians import CUSTODIANS_MIN, Custodians
from hsm.command_line import passphrase_of
from hsm.errors import CeremonyError
from hsm.hardening import harden_for_secrets
from hsm.manifest.generation_table import GenerationTable
from hsm.manifest.trust import Operator, Trust, read_trust
from hsm.pkcs11 import mechanisms, own_keys, shared_keys
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.pkcs11.own_keys import KeyReport
from hsm.pkcs11.shared_keys import ClearKey
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import VaultSettings
from hsm.terminal import hand_over

CEREMONY_ID_BYTES: Final = 16


@dataclass
class SharedKeyCeremony:
    """One ceremony. Nothing is stored before :meth:`store`."""

    action: Action
    ceremony_id: str
    label: KeyLabel
    """Of the key that is to be: the next generation of its role."""
    files: Sequence[Path]
    """The custodians' keys, in the order in which they come."""
    record_file: Path
    block_file: Path | None
    """For the key block of a key that is made for a partner."""
    began_at: datetime
    hsm_token: Pkcs11Token
    """The one that serves, with the key of the log."""
    import_token: Pkcs11Token
    """The one that opens and makes key blocks: another, or the same."""
    receipt: str = field(default="", init=False)
    """Of the line of the log."""
    _trust: Trust
    _custodians: Custodians
    _log: CeremonyLog
    _components: list[RecordedComponent] = field(default_factory=list, init=False)
    _block: RecordedBlock | None = field(default=None, init=False)
    _block_text: str = field(default="", init=False)

    @classmethod
    def prepare(
        cls,
        action: Action,
        role: KeyRole,
        issuer_id: str,
        files: Sequence[Path],
        record_file: Path,
        block_file: Path | None = None,
    ) -> Self:
        """Do all that can fail before somebody types a secret.

        Raises:
            CeremonyError: fewer than two custodians are named; or a file that is to be written is
                there already, the other one, or in a directory that cannot be written.
            ManifestRefused: the trust file cannot be used.
            VaultUnavailable: the HSM token does not answer, lacks a key, or this host has no log.
            ValidationError: the environment does not name HSM token, state and trust file.
        """
        if len(files) < CUSTODIANS_MIN:
            raise CeremonyError("name two custodians or more")
        ceremony_record.require_new(record_file, *([] if block_file is None else [block_file]))
        harden_for_secrets()
        settings = VaultSettings()
        trust = read_trust(settings.trust_file)
        hsm_token = Pkcs11Token.open(settings, writable=True)
        import_token = import_tokens.beside(hsm_token, settings)
        log = CeremonyLog.of_host(hsm_token, settings)
        log.check()
        ceremony_id = hsm_token.random(CEREMONY_ID_BYTES).hex()
        return cls(
            action=action,
            ceremony_id=ceremony_id,
            label=_next_label(hsm_token, import_token, role, issuer_id),
            files=files,
            record_file=record_file,
            block_file=block_file,
            began_at=now(),
            hsm_token=hsm_token,
            import_token=import_token,
            _trust=trust,
            _custodians=Custodians(trust, ceremony_id, issuer_id),
            _log=log,
        )

    @property
    def _target(self) -> Pkcs11Token:
        """Where the key is stored: one that opens key blocks, where those are opened."""
        is_kbpk = self.label.role is KeyRole.BLOCK_PROTECTION
        return self.import_token if is_kbpk else self.hsm_token

    def admit(self, file: Path, what: str) -> Operator:
        """Begin the session of the custodian whose key is in *file*.

        Raises:
            CeremonyError, ManifestRefused: as :meth:`Custodians.admit` says.
        """
        hand_over(what)
        custodian = self._custodians.admit(file, partial(passphrase_of, file))
        print(f"{custodian.name!a} is here for {self.label}")
        return custodian

    def note_component(self, number: int, custodian: Operator, component: ClearKey) -> None:
        """Write into the record who typed a component."""
        self._components.append(
            RecordedComponent(
                number=number, custodian=custodian.name, kcv=component.kcv, typed_at=now()
            )
        )

    def open_block(self, text: str) -> ClearKey:
        """Open the key block that is imported.

        Raises:
            CeremonyError: as :func:`shared_keys.open_block` says.
        """
        issuer_id = str(self.label.issuer_id)
        key = shared_keys.open_block(self.import_token, self.label.role, issuer_id, text)
        version = keyblock.parse_header(text).version
        kbpk = shared_keys.block_protection_key(self.import_token, issuer_id, version)
        self._note_block(text, kbpk)
        return key

    def write_block(
        self, key: ClearKey, header: KeyBlockHeader, optional: Sequence[OptionalBlock]
    ) -> None:
        """Wrap the key that is made, for the file that :meth:`store` writes.

        Args:
            key: the key.
            header: of its block.
            optional: KC, KP and TS without data get what is theirs.

        Raises:
            CeremonyError: as :func:`shared_keys.write_block` says, or the issuer has no
                block-protection key for this version.
        """
        issuer_id = str(self.label.issuer_id)
        kbpk = shared_keys.block_protection_key(self.import_token, issuer_id, header.version)
        blocks = tuple(self._filled(block, key, header, kbpk) for block in optional)
        header = replace(header, optional=blocks)
        self._block_text = shared_keys.write_block(self.import_token, kbpk, key, header)
        self._note_block(self._block_text, kbpk)

    def _filled(
        self, block: OptionalBlock, key: ClearKey, header: KeyBlockHeader, kbpk: KeyLabel
    ) -> OptionalBlock:
        if block.data:
            return block
        match block.block_id:
            case keyblock.KCV_OF_KEY:
                return keyblock.kcv_block(KeyAlgorithm(header.algorithm), key.value)
            case keyblock.KCV_OF_KBPK:
                return shared_keys.kbpk_kcv_block(self.import_token, kbpk)
            case keyblock.TIME_STAMP:
                return OptionalBlock(keyblock.TIME_STAMP, f"{now():%Y%m%d%H%M%SZ}")
            case _:
                raise CeremonyError("an optional block other than KC, KP and TS needs data")

    def _note_block(self, text: str, kbpk: KeyLabel) -> None:
        """Write into the record which block it is; its key must be in use.

        Raises:
            CeremonyError: the table of key generations of this host takes *kbpk* out of use.
        """
        table = self._table()
        if table is not None and table.forbids(kbpk):
            raise CeremonyError("the block-protection key is not in use any more: bring another")
        optional = keyblock.parse_header(text).optional
        self._block = RecordedBlock(
            header=text[:HEADER_CHARS],
            optional_blocks=tuple(map(str, optional)),
            protected_by=str(kbpk),
            sha256=hashlib.sha256(text.encode()).hexdigest(),
        )

    def _table(self) -> GenerationTable | None:
        return generations.of_host(VaultSettings().state_directory, self.hsm_token).table()

    def store(self, key: ClearKey) -> KeyReport:
        """Have the record signed, write it, have the log name it, and store the key.

        Unless the log names it, no file stays that is written here.

        Raises:
            CeremonyError: the key was compromised, another key became this generation meanwhile, a
                file cannot be written, or the key is too weak.
            ManifestRefused: somebody did not sign.
            MechanismMissing: the HSM token cannot do what the key is for. With it there, nothing
                would open the HSM token any more.
            VaultUnavailable: the HSM token does not answer, or the log cannot be written.
        """
        self._require_not_compromised(key)
        label, target = self.label, self._target
        with target.alone():
            mechanisms.require_for(target, [(label.role, key.kind)])
        record = self._record(key)
        signed = self._custodians.sign(record, self.files)
        with target.alone():
            # From here on it is seconds, and nobody's to stop.
            signals.ignore()
            # A table may have been loaded while they signed.
            self._require_not_compromised(key)
            issuer_id = str(label.issuer_id)
            after = label.generation - 1
            if shared_keys.next_label(target, label.role, issuer_id, after) != label:
                raise CeremonyError("another key was stored meanwhile: hold the ceremony again")
            texts = {self.record_file: f"{signed}\n"}
            if self.block_file is not None:
                texts[self.block_file] = f"{self._block_text}\n"
            with ceremony_record.written(texts):
                self.receipt = self._log.tell(record)
            shared_keys.store(target, label.role, issuer_id, key, after)
        return own_keys.report(target, label)

    def _require_not_compromised(self, key: ClearKey) -> None:
        table = self._table()
        if table is not None:
            hsm_tokens = [self.hsm_token, self.import_token]
            compromised_keys.require_other(key, str(self.label.issuer_id), table, hsm_tokens)

    def _record(self, key: ClearKey) -> CeremonyRecord:
        return CeremonyRecord(
            ceremony_id=self.ceremony_id,
            action=self.action,
            issuer_id=self.label.issuer_id,
            hsm_token=ceremony_record.described(self._target.device),
            began_at=self.began_at,
            ended_at=now(),
            custodians=ceremony_record.custodians(self._custodians.present),
            components=tuple(self._components),
            block=self._block,
            keys=(
                RecordedKey(
                    label=str(self.label), kind=key.kind.value, fingerprint=f"KCV {key.kcv}"
                ),
            ),
        )


def _next_label(
    hsm_token: Pkcs11Token, import_token: Pkcs11Token, role: KeyRole, issuer_id: str
) -> KeyLabel:
    label = shared_keys.next_label(hsm_token, role, issuer_id)
    if role is not KeyRole.BLOCK_PROTECTION:
        return label
    # No two keys have one label, wherever they are: the table of generations names them by it.
    return shared_keys.next_label(import_token, role, issuer_id, label.generation - 1)


def now() -> datetime:
    """Tell the time, to the second."""
    return datetime.now(UTC).replace(microsecond=0)
