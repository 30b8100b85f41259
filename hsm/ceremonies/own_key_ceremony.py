"""The ceremony in which custodians have the HSM token make the keys of a role file.

Keys that are made in the HSM token have a check value or a thumbprint only once they are there. So
they are made first, and destroyed again unless everybody signs the record. Only a process that is
killed (SIGKILL), or a machine that loses power, leaves them there without one.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from hsm import signals
from hsm.ceremonies import ceremony_record
from hsm.ceremonies.ceremony_log import CeremonyLog
from hsm.ceremonies.ceremony_record import CeremonyRecord, RecordedKey
from hsm.ceremonies.custodians import CUSTODIANS_MIN, Custodians
from hsm.ceremonies.shared_key_ceremony import CEREMONY_ID_BYTES, now
from hsm.command_line import passphrase_of
from hsm.errors import CeremonyError, ManifestRefused, VaultUnavailable
from hsm.hardening import harden_for_secrets
from hsm.manifest.trust import read_trust
from hsm.pkcs11 import own_keys
from hsm.pkcs11.keys import KeyLabel
from hsm.pkcs11.own_keys import KeyReport
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import VaultSettings
from hsm.terminal import hand_over


def hold(
    labels: Sequence[KeyLabel], files: Sequence[Path], record_file: Path
) -> tuple[Sequence[KeyReport], str | None]:
    """Make each key of *labels* that is not there, and have the record signed and written.

    Args:
        labels: of the role file.
        files: the custodians' keys, in the order in which they come.
        record_file: a new file.

    Returns:
        A report of each key that was made, and the receipt of the log's line; None: this host has
        no log that can be written, and the record must be logged when it has.

    Raises:
        CeremonyError: fewer than two custodians are named or take part, the record is there or
            cannot be written, or there is no key to be made. No key stays that was made; where the
            HSM token does not destroy one, the error says so.
        ManifestRefused: the trust file or a custodian's key cannot be used. No key stays.
        VaultUnavailable: the HSM token does not answer. No key stays.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came before all had signed. No key stays.
    """
    if len(files) < CUSTODIANS_MIN:
        raise CeremonyError("name two custodians or more")
    ceremony_record.require_new(record_file)
    harden_for_secrets()
    settings, began_at = VaultSettings(), now()
    trust = read_trust(settings.trust_file)
    hsm_token = Pkcs11Token.open(settings, writable=True)
    ceremony_id = hsm_token.random(CEREMONY_ID_BYTES).hex()
    present = Custodians(trust, ceremony_id, None)
    for file in files:
        hand_over("Keys of our own are made")
        present.admit(file, partial(passphrase_of, file))

    made: list[KeyLabel] = []
    signals.interrupt_once()
    with ExitStack() as alone, _destroyed_on_failure(hsm_token, made):
        alone.enter_context(hsm_token.alone())
        before = hsm_token.labels()
        made += (label for label in labels if label not in before)
        if not made:
            raise CeremonyError("every key of the role file is there already")
        reports = list(own_keys.create_each(hsm_token, made))
        is_free = all(_has_older(label, before) for label in made)
        if is_free:
            # The older key of each role stays active, so that nothing uses those that were made:
            # nobody waits for the HSM token while somebody is asked.
            alone.close()
        record = CeremonyRecord(
            ceremony_id=ceremony_id,
            action="ceremony",
            issuer_id=None,
            hsm_token=ceremony_record.described(hsm_token.device),
            began_at=began_at,
            ended_at=now(),
            custodians=ceremony_record.custodians(present.present),
            keys=tuple(map(_recorded, reports)),
        )
        signed = present.sign(record, files)
        if is_free:
            alone.enter_context(hsm_token.alone())
            _require_as_signed(hsm_token, made, record)
        # From here on it is seconds, and nobody's to stop.
        signals.ignore()
        ceremony_record.write_new(record_file, f"{signed}\n")
    try:
        receipt = CeremonyLog.of_host(hsm_token, settings).tell(record)
    except (ManifestRefused, VaultUnavailable):
        # The keys are there and their record is signed: what lacks is a log, or a key of its own.
        return reports, None
    return reports, receipt


def _has_older(label: KeyLabel, before: Sequence[KeyLabel]) -> bool:
    return any(one.role is label.role and one.generation < label.generation for one in before)


def _require_as_signed(
    hsm_token: Pkcs11Token, made: list[KeyLabel], record: CeremonyRecord
) -> None:
    """Look at the keys again after others could reach them.

    Raises:
        CeremonyError: one is gone, or is another; *made* then names those only that are ours.
    """
    there = hsm_token.labels()
    same = [
        label
        for label, key in zip(made, record.keys, strict=True)
        if label in there and _recorded(own_keys.report(hsm_token, label)) == key
    ]
    if same != made:
        made[:] = same
        raise CeremonyError("the keys are others than were signed for: see hsm list")


@contextmanager
def _destroyed_on_failure(hsm_token: Pkcs11Token, made: Sequence[KeyLabel]) -> Iterator[None]:
    """Destroy the keys again if what is done within fails.

    Raises:
        CeremonyError: as :func:`_destroy` does.
    """
    try:
        yield
    except BaseException:
        try:
            signals.ignore()
        finally:
            _destroy(hsm_token, made)
        raise


def _destroy(hsm_token: Pkcs11Token, labels: Sequence[KeyLabel]) -> None:
    """Destroy each of the keys that is there.

    Raises:
        CeremonyError: one could not be destroyed; the others were tried.
    """
    stay = False
    for label in labels:
        try:
            hsm_token.destroy(label)
        except VaultUnavailable:
            stay = True
    if stay:
        raise CeremonyError(
            "the ceremony failed, and a key that it made could not be destroyed: see hsm list"
        )


def _recorded(report: KeyReport) -> RecordedKey:
    return RecordedKey(
        label=str(report.label), kind=report.kind.value, fingerprint=report.fingerprint
    )
