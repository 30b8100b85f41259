"""``python -m hsm import-components|import-block|make-key|record``: ceremonies of custodians.

Each of them is held by two custodians or more (:mod:`hsm.ceremonies.custodians`), and leaves a
record (:mod:`hsm.ceremonies.ceremony_record`). The key is stored last: when everybody has signed,
the record is on the disk and the vault's log names it.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from hsm import printing
from hsm.command_line import (
    BYTE_ORDER_MARK,
    ISSUER_HELP,
    OK,
    REFUSED,
    Commands,
    add_command,
    ask,
    issuer_id,
)
from hsm.pkcs11.keys import AES_KINDS, BLOCK_ROLES, KEY_BYTES, TDES_KINDS, KeyKind, KeyRole
from hsm.printing import Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hsm.ceremonies.shared_key_ceremony import SharedKeyCeremony
    from hsm.pkcs11.keys import KeyLabel
    from hsm.pkcs11.own_keys import KeyReport
    from hsm.pkcs11.shared_keys import ClearKey
    from hsm.pkcs11.token import Pkcs11Token

T = TypeVar("T")

TRIES: Final = 3
"""How often somebody at a terminal may type a component and its KCV."""
KIND_NAMES: Final = {
    kind.value.lower().replace(" ", "-"): kind for kind in (*AES_KINDS, *TDES_KINDS)
}
"""As the command line has them: ``aes-256``, ``tdes-2-key``."""


def add_to(commands: Commands) -> None:
    """Add the commands to the program."""
    text = "import a key from components that custodians type"
    components = add_command(commands, "import-components", import_components, text)
    _add_role(components, [KeyRole.BLOCK_PROTECTION])
    components.add_argument("issuer", type=issuer_id, help=ISSUER_HELP)
    text = "what the key is made of; aes-256 unless said"
    components.add_argument("--kind", choices=KIND_NAMES, default="aes-256", help=text)
    text = "have TDES components checked for odd parity; any unless said"
    components.add_argument("--parity", choices=("any", "odd"), default="any", help=text)
    add_custodians(components)
    printing.add_json(components)
    text = "import a key from a TR-31 key block"
    block = add_command(commands, "import-block", import_block, text)
    _add_role(block, BLOCK_ROLES)
    block.add_argument("issuer", type=issuer_id, help=ISSUER_HELP)
    block.add_argument("file", type=Path, help="a file that holds the key block, as text")
    add_custodians(block)
    printing.add_json(block)
    _add_make_key(commands)
    noun = commands.add_parser("record", help="what custodians signed of a key ceremony")
    records = noun.add_subparsers(required=True, metavar="COMMAND")
    show = add_command(records, "show", show_record, "print a record, and who signed it")
    show.add_argument("file", type=Path, metavar="FILE", help="a record")
    text = "the trust file that names the custodians"
    show.add_argument("--trust", type=Path, required=True, metavar="FILE", help=text)
    printing.add_json(show)
    text = "have the log of this host name a record that another made, or that is older"
    log = add_command(records, "log", log_record, text)
    log.add_argument("file", type=Path, metavar="FILE", help="a record")
    printing.add_json(log)


def _add_make_key(commands: Commands) -> None:
    text = "make a key, store it, and wrap it as a TR-31 key block for a partner"
    make = add_command(commands, "make-key", make_key, text)
    _add_role(make, BLOCK_ROLES)
    make.add_argument("issuer", type=issuer_id, help=ISSUER_HELP)
    text = "what the key is made of; the first that the role takes unless said"
    make.add_argument("--kind", choices=KIND_NAMES, help=text)
    text = "of the key block: under a TDES (B) or an AES (D) block-protection key; D unless said"
    make.add_argument("--version", choices=("B", "D"), default="D", help=text)
    text = "usage in the block (X9.143, table 2); the first that the role takes unless said"
    make.add_argument("--usage", help=text)
    text = "what the partner may do with the key (X9.143, table 4); both directions unless said"
    make.add_argument("--mode", help=text)
    text = "whether the partner may export it; N unless said"
    make.add_argument("--exportability", choices=("E", "N", "S"), default="N", help=text)
    make.add_argument(
        "--optional",
        action="extend",
        nargs="+",
        default=[],
        type=_optional_block,
        metavar="ID[=DATA]",
        help="an optional block, as KS=00604B120F9292800000; KC, KP and TS need no data",
    )
    make.add_argument("--out", type=Path, required=True, metavar="NEW", help="for the key block")
    add_custodians(make)
    printing.add_json(make)


def _optional_block(text: str) -> tuple[str, str]:
    block_id, _, data = text.partition("=")
    if not re.fullmatch("[0-9A-Z]{2}", block_id) or not re.fullmatch("[ -~]{0,251}", data):
        raise ArgumentTypeError("not ID=DATA, of two letters and printable ASCII")
    return block_id, data


def _add_role(parser: ArgumentParser, roles: Sequence[KeyRole]) -> None:
    # As text: argparse would write an enum's members as Python does.
    choices = [role.value for role in roles]
    parser.add_argument("role", choices=choices, help="what the key is for")


def add_custodians(parser: ArgumentParser, *, required: bool = True) -> None:
    """Add the arguments that name custodians, and their record."""
    parser.add_argument(
        "--custodian",
        action="append",
        default=[],
        type=Path,
        required=required,
        metavar="KEY",
        help="the file of a custodian's key: once for each, in the order in which they come",
    )
    text = "a new file, for what they sign"
    parser.add_argument("--record", type=Path, required=required, metavar="NEW", help=text)


def _in_ceremony(
    command: Callable[[Namespace, SharedKeyCeremony], KeyReport],
) -> Callable[[Namespace], int]:
    """Run *command* with a ceremony that has been prepared; nothing that is typed shows."""

    @printing.with_result
    @wraps(command)
    def run(arguments: Namespace, result: Result) -> int:
        from hsm.ceremonies.shared_key_ceremony import SharedKeyCeremony
        from hsm.errors import CeremonyError
        from hsm.terminal import without_echo

        with without_echo():
            try:
                ceremony = SharedKeyCeremony.prepare(
                    *(arguments.command, KeyRole(arguments.role), arguments.issuer),
                    *(arguments.custodian, arguments.record, getattr(arguments, "out", None)),
                )
                report = command(arguments, ceremony)
            except KeyboardInterrupt:
                raise CeremonyError("interrupted: no key was stored") from None
        record, receipt = str(ceremony.record_file), ceremony.receipt
        code = print_reports([report], result)
        print(f"record {record}, in the log as {receipt}")
        result |= {"record": record, "receipt": receipt}
        return code

    return run


@_in_ceremony
def import_components(arguments: Namespace, ceremony: SharedKeyCeremony) -> KeyReport:
    """Have each custodian type a component and its KCV, then the KCV of the key; import it."""
    from hsm.errors import CeremonyError
    from hsm.pkcs11 import shared_keys

    kind = KIND_NAMES[arguments.kind]
    if arguments.parity == "odd" and kind not in TDES_KINDS:
        raise CeremonyError("an AES key has no parity")
    components = []
    for number, file in enumerate(arguments.custodian, 1):
        custodian = ceremony.admit(file, f"Component {number} of {len(arguments.custodian)}")
        read = partial(_typed_component, f"component {number}", kind, arguments.parity == "odd")
        components.append(_in_tries(read))
        ceremony.note_component(number, custodian, components[-1])
    key = shared_keys.join_components(components)
    _in_tries(partial(_require_kcv, key, "the key"))
    return ceremony.store(key)


@_in_ceremony
def import_block(arguments: Namespace, ceremony: SharedKeyCeremony) -> KeyReport:
    """Open a key block, have the KCV of its key typed, and import it."""
    from hsm.errors import CeremonyError

    try:
        text = (
            arguments.file.read_bytes().removeprefix(BYTE_ORDER_MARK).decode("ascii").rstrip("\r\n")
        )
    except (OSError, UnicodeDecodeError):
        raise CeremonyError("the file cannot be read") from None
    key = ceremony.open_block(text)
    for file in arguments.custodian:
        ceremony.admit(file, "Key block")
    _in_tries(partial(_require_kcv, key, "the key"))
    return ceremony.store(key)


@_in_ceremony
def make_key(arguments: Namespace, ceremony: SharedKeyCeremony) -> KeyReport:
    """Make a key, wrap it for the partner, store it so that nobody gets it out, and forget it."""
    from dataclasses import replace

    from crypto.keyblock import OptionalBlock
    from hsm.pkcs11 import shared_keys

    role = ceremony.label.role
    kind = role.kind if arguments.kind is None else KIND_NAMES[arguments.kind]
    header = shared_keys.export_header(
        role, kind, arguments.version, arguments.usage, arguments.mode
    )
    header = replace(header, exportability=arguments.exportability)
    for file in arguments.custodian:
        ceremony.admit(file, "A key is made")
    key = shared_keys.make_key(ceremony.hsm_token, kind)
    optional = [OptionalBlock(*block) for block in arguments.optional]
    ceremony.write_block(key, header, optional)
    return ceremony.store(key)


def make_own(arguments: Namespace, labels: Sequence[KeyLabel], result: Result) -> int:
    """Make those keys of our own that the HSM token lacks, and print them.

    *result* gets the keys, and the record and its receipt where there are such.

    Raises:
        CeremonyError: no custodians are named, and the HSM token is not one in software; or as
            :func:`own_key_ceremony.hold` says.
    """
    from hsm import development
    from hsm.errors import CeremonyError
    from hsm.pkcs11 import own_keys

    if arguments.custodian or arguments.record:
        return hold_own(arguments, labels, result)
    hsm_token = open_hsm_token(writable=True)
    if not development.is_software(hsm_token.device):
        raise CeremonyError(
            "name two custodians, and the record that they sign: see docs/key-ceremonies.md"
        )
    return print_reports(list(own_keys.create(hsm_token, labels)), result)


def hold_own(arguments: Namespace, labels: Sequence[KeyLabel], result: Result) -> int:
    """Have custodians make keys of our own; *result* is that of :func:`make_own`.

    Raises:
        CeremonyError: no record is named, or as :func:`own_key_ceremony.hold` says.
    """
    from hsm.ceremonies import own_key_ceremony
    from hsm.errors import CeremonyError
    from hsm.terminal import without_echo

    if arguments.record is None:
        raise CeremonyError("name the record that the custodians sign")
    with without_echo():
        try:
            held = own_key_ceremony.hold(labels, arguments.custodian, arguments.record)
        except KeyboardInterrupt:
            raise CeremonyError("interrupted: no key was stored") from None
    reports, receipt = held
    code = print_reports(reports, result)
    result |= {"record": str(arguments.record), "receipt": receipt}
    where = f"in the log as {receipt}"
    if receipt is None:
        where = "not yet in a log: run record log when this host has one"
    print(f"record {arguments.record}, {where}")
    return code


def log_record(arguments: Namespace) -> int:
    """Have the log of this host name a record, as it does of a ceremony that is held on it.

    Raises:
        ManifestRefused: not every custodian whom it names has signed it.
    """
    from hsm.ceremonies import ceremony_record
    from hsm.ceremonies.ceremony_log import CeremonyLog
    from hsm.ceremonies.custodians import require_signed
    from hsm.manifest.trust import read_trust
    from hsm.settings import VaultSettings

    record, document = ceremony_record.read(arguments.file)
    settings = VaultSettings()
    require_signed(read_trust(settings.trust_file), record, document)
    receipt = CeremonyLog.of_host(open_hsm_token(), settings).tell(record)
    if arguments.json:
        printing.print_json({"receipt": receipt})
    else:
        print(f"in the log as {receipt}")
    return OK


@printing.with_result
def show_record(arguments: Namespace, result: Result) -> int:
    """Print a record; exit code 2 unless every custodian whom it names has signed it."""
    from hsm.ceremonies import ceremony_record
    from hsm.ceremonies.ceremony_record import RECORD_TYPE
    from hsm.ceremonies.custodians import require_signed
    from hsm.manifest.trust import read_trust

    trust = read_trust(arguments.trust)
    record, document = ceremony_record.read(arguments.file)
    for line in record.lines():
        print(line)
    signers = trust.signing_custodians(document, RECORD_TYPE, record.issuer_id)
    for one in signers:
        print(f"signed by      {one.name!a}", flush=True)
    members = {**record.model_dump(mode="json"), "sha256": record.sha256}
    result |= {"record": members, "signed_by": [one.name for one in signers]}
    require_signed(trust, record, document)
    return OK


def open_hsm_token(
    *, writable: bool = False, production: bool = False, probing: bool = False
) -> Pkcs11Token:
    """Open the HSM token that the environment names, as :meth:`Pkcs11Token.open` does.

    Raises:
        MechanismMissing: the module lacks what our keys need, and *probing* is not asked for.
        VaultUnavailable: it does not answer, or refuses the PIN.
        NotForProduction: *production* is asked for, and it is for development only.
        ValidationError: the environment does not name one.
    """
    from hsm.pkcs11.token import Pkcs11Token
    from hsm.settings import HsmTokenSettings

    return Pkcs11Token.open(
        HsmTokenSettings(), writable=writable, production=production, probing=probing
    )


def print_reports(reports: Sequence[KeyReport], result: Result) -> int:
    """Print a line for each key; the exit code tells whether all are as they must be.

    *result* gets them, too.
    """
    result["keys"] = list(map(report_members, reports))
    code = OK if all(report.as_expected for report in reports) else REFUSED
    if printing.is_for_people():
        printing.print_table(map(_row, reports))
        return code
    width = max((len(str(report.label)) for report in reports), default=0)
    for report in reports:
        faults = "".join(f"   {fault}" for fault in _faults(report))
        print(
            f"{report.label!s:<{width}} {report.kind.value:<10} {_fingerprint_name(report):<12} "
            f"{report.fingerprint}{faults}"
        )
    return code


def _row(report: KeyReport) -> Mapping[str, object]:
    return {
        "key": str(report.label),
        "kind": report.kind.value,
        "fingerprint": f"{_fingerprint_name(report)} {report.fingerprint}",
        "attributes": "; ".join(_faults(report)) or "as they must be",
    }


def _faults(report: KeyReport) -> Iterator[str]:
    if not report.as_expected:
        yield "ATTRIBUTES ARE NOT THOSE OF ITS ROLE"
    for attribute in report.unknown:
        yield f"{attribute} IS NOT KNOWN TO THE DEVICE"


def report_members(report: KeyReport) -> Result:
    """Say of a key what JSON says of it."""
    label = report.label
    return {
        "label": str(label),
        "role": label.role.value,
        "issuer_id": label.issuer_id,
        "generation": label.generation,
        "kind": report.kind.value,
        "fingerprint": report.fingerprint,
        "as_expected": report.as_expected,
        "unknown": [str(attribute) for attribute in report.unknown],
    }


def _fingerprint_name(report: KeyReport) -> str:
    if report.kind is KeyKind.EC_P256:
        return "thumbprint"
    return "KCV" if report.label.role.per_issuer else "check value"


def _typed_component(name: str, kind: KeyKind, is_parity_odd: bool) -> ClearKey:
    """Ask for a component, and for its KCV.

    Raises:
        CeremonyError: it is none, or another KCV is typed.
    """
    from crypto.secret import Secret
    from hsm.pkcs11 import shared_keys

    prompt = f"{name}, {2 * KEY_BYTES[kind]} hexadecimal digits (not shown): "
    text = Secret(ask(getpass, prompt))
    component = shared_keys.read_component(text, kind, odd_parity_needed=is_parity_odd)
    _require_kcv(component, name)
    return component


def _require_kcv(key: ClearKey, name: str) -> None:
    """Have a KCV typed, which nobody is shown before.

    Raises:
        CeremonyError: it is another one.
    """
    from hsm.errors import CeremonyError
    from hsm.terminal import ask_shown

    if ask_shown(f"KCV of {name}, as it was given to you: ").strip().upper() != key.kcv:
        raise CeremonyError("that is not the KCV of what was typed or opened: no key was stored")


def _in_tries(question: Callable[[], T]) -> T:
    """Ask again, of somebody at a terminal, when what was typed is refused.

    Raises:
        CeremonyError: the last try was refused, too.
    """
    from hsm.errors import CeremonyError

    for _ in range(TRIES - 1 if sys.stdin.isatty() else 0):
        try:
            return question()
        except CeremonyError as error:
            print(f"{error}; try again")
    return question()
