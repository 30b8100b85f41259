"""The ceremony in which custodians destroy a key that nothing may be opened with any more.

The record is signed, on the disk and named in the vault's log before the key goes: what cannot be
undone is done last.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from hsm import generations, signals
from hsm.ceremonies import ceremony_record, import_tokens
from hsm.ceremonies.ceremony_log import CeremonyLog
from hsm.ceremonies.ceremony_record import CeremonyRecord, RecordedKey
from hsm.ceremonies.custodians import CUSTODIANS_MIN, Custodians
from hsm.ceremonies.shared_key_ceremony import CEREMONY_ID_BYTES, now
from hsm.command_line import passphrase_of
from hsm.errors import CeremonyError, VaultUnavailable
from hsm.hardening import harden_for_secrets
from hsm.manifest.generation_table import LOST
from hsm.manifest.trust import read_trust
from hsm.pkcs11 import own_keys
from hsm.pkcs11.keys import LEFT_ROLES, MAC_ROLES, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import VaultSettings
from hsm.terminal import hand_over


def hold(label: KeyLabel, files: Sequence[Path], record_file: Path) -> str:
    """Destroy a key, and the one that goes with it: that of its MAC, or its left half.

    Args:
        label: of the key.
        files: the custodians' keys, in the order in which they come.
        record_file: a new file.

    Returns:
        The receipt of the log's line.

    Raises:
        CeremonyError: fewer than two custodians are named or take part, the record is there or
            cannot be written, the key is not there, makes MACs of the log or goes with another, or
            the table of this host does not say that it is destroyed or compromised; or keys are
            others than were signed for. Or the HSM token did not destroy it; then the record is
            there all the same.
        ManifestRefused: trust file, table or a custodian's key cannot be used.
        VaultUnavailable: the HSM token does not answer, or this host has no log.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came before all had signed.
    """
    if len(files) < CUSTODIANS_MIN:
        raise CeremonyError("name two custodians or more")
    ceremony_record.require_new(record_file)
    harden_for_secrets()
    settings, began_at = VaultSettings(), now()
    trust = read_trust(settings.trust_file)
    # A key that the module cannot use must be able to go.
    hsm_token = Pkcs11Token.open(settings, writable=True, probing=True)
    log = CeremonyLog.of_host(hsm_token, settings)
    log.check()
    holder = hsm_token
    if label.role is KeyRole.BLOCK_PROTECTION:
        holder = import_tokens.beside(hsm_token, settings)
    labels = _ended(hsm_token, holder, settings, label)
    ceremony_id = hsm_token.random(CEREMONY_ID_BYTES).hex()
    present = Custodians(trust, ceremony_id, label.issuer_id)
    for file in files:
        hand_over("A key is destroyed")
        present.admit(file, partial(passphrase_of, file))

    signals.interrupt_once()
    record = CeremonyRecord(
        ceremony_id=ceremony_id,
        action="destroy-key",
        issuer_id=label.issuer_id,
        hsm_token=ceremony_record.described(holder.device),
        began_at=began_at,
        ended_at=now(),
        custodians=ceremony_record.custodians(present.present),
        keys=tuple(_recorded(holder, one) for one in labels),
    )
    signed = present.sign(record, files)
    # Nobody waits for the HSM token before.
    with holder.alone():
        # From here on it is seconds, and nobody's to stop.
        signals.ignore()
        found = tuple(_recorded(holder, one) for one in labels if one in holder.labels())
        if found != record.keys:
            raise CeremonyError("the keys are others than were signed for: no key was destroyed")
        ceremony_record.write_new(record_file, f"{signed}\n")
        receipt = log.tell(record)
        _destroy(holder, labels)
    return receipt


def _ended(
    hsm_token: Pkcs11Token, holder: Pkcs11Token, settings: VaultSettings, label: KeyLabel
) -> Sequence[KeyLabel]:
    """Name the keys of *holder* that go, when the table lets them."""
    if label.role is KeyRole.LOG_MAC:
        raise CeremonyError("a key of role log-mac proves its lines: it is never destroyed")
    if label.role in {*MAC_ROLES.values(), *LEFT_ROLES.values()}:
        raise CeremonyError("this key goes with another: name that")
    table = generations.of_host(settings.state_directory, hsm_token).table()
    if table is None or table.states.get(label) not in LOST:
        raise CeremonyError(
            "the table of this host does not say that it is destroyed or compromised"
        )
    partner = {**MAC_ROLES, **LEFT_ROLES}.get(label.role, label.role)
    labels = [one for one in {label: 0, label.of(partner): 0} if one in holder.labels()]
    if not labels:
        raise CeremonyError("the key is not on the HSM token")
    return labels


def _destroy(hsm_token: Pkcs11Token, labels: Sequence[KeyLabel]) -> None:
    try:
        for label in labels:
            hsm_token.destroy(label)
    except VaultUnavailable:
        raise CeremonyError(
            "the record is signed, and the HSM token did not destroy the key: see hsm list, and "
            "hold the ceremony again"
        ) from None


def _recorded(hsm_token: Pkcs11Token, label: KeyLabel) -> RecordedKey:
    report = own_keys.report(hsm_token, label)
    return RecordedKey(label=str(label), kind=report.kind.value, fingerprint=report.fingerprint)
