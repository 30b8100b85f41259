"""The vault's command line: ``python -m hsm COMMAND``.

The commands are ``ceremony|import-components|import-block|list|check|jwks|config``.

The HSM token is named by ``HSM_MODULE``, ``HSM_TOKEN_LABEL`` and ``HSM_PIN_FILE``. Exit code 0 is
success, 2 a refusal.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from getpass import getpass
from pathlib import Path

from pydantic import ValidationError

from crypto.secret import Secret
from hsm.config.json_file import from_json, to_json
from hsm.errors import CeremonyError, ConfigRefused, HsmError
from hsm.local import open_vault, vault_over
from hsm.pkcs11 import ceremony, shared_keys
from hsm.pkcs11.keys import ISSUER_ID_PATTERN, KeyKind, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import PublicKeyRole
from hsm.settings import HsmTokenSettings

OK, REFUSED = 0, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = arguments.command
    try:
        return command(arguments)
    except ValidationError as error:
        names = sorted("HSM_" + str(item["loc"][0]).upper() for item in error.errors())
        print("set " + ", ".join(names), file=sys.stderr)
    except HsmError as error:
        print(str(error) or type(error).__doc__, file=sys.stderr)
    return REFUSED


def run_ceremony(arguments: argparse.Namespace) -> int:
    """Make the keys of a role file that the token lacks; print all of them."""
    labels = ceremony.read_roles(arguments.file)
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    return _print_reports(list(ceremony.create(hsm_token, labels)))


def import_components(arguments: argparse.Namespace) -> int:
    """Ask for the components of a key, then for its KCV, and import it."""
    typed = [_ask(getpass, "component 1 (not shown): "), _ask(getpass, "component 2 (not shown): ")]
    third = _ask(getpass, "component 3 (not shown; empty if there is none): ")
    components = [Secret(text) for text in (*typed, third) if text]
    key = shared_keys.join_components(components)
    return _import(Pkcs11Token.open(HsmTokenSettings(), writable=True), arguments, key)


def import_block(arguments: argparse.Namespace) -> int:
    """Open a key block, ask for the KCV of its key, and import it."""
    try:
        text = arguments.file.read_text("ascii").rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        raise CeremonyError("the file cannot be read") from None
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    key = shared_keys.open_block(hsm_token, arguments.role, arguments.issuer, text)
    return _import(hsm_token, arguments, key)


def list_keys(_: argparse.Namespace) -> int:
    """Print every key of ours on the token."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings())
    return _print_reports([ceremony.report(hsm_token, label) for label in sorted_labels(hsm_token)])


def check_token(_: argparse.Namespace) -> int:
    """Compare every key's attributes with its role, then encipher and compare with each."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings())
    code = _print_reports([ceremony.report(hsm_token, label) for label in sorted_labels(hsm_token)])
    for role in ceremony.missing(hsm_token):
        print(f"missing: {role}", file=sys.stderr)
        code = REFUSED
    if code == OK:
        vault_over(hsm_token).health()
        print("all keys answer")
    return code


def print_jwks(arguments: argparse.Namespace) -> int:
    """Print the public keys of an EC role: what a partner needs to encrypt to us."""
    print(json.dumps(open_vault().public_jwks(PublicKeyRole(arguments.role)), indent=2))
    return OK


def seal_config(arguments: argparse.Namespace) -> int:
    """Validate a configuration file, seal it under the token's key and print the result."""
    try:
        text = sys.stdin.read() if str(arguments.file) == "-" else arguments.file.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigRefused("the file cannot be read") from None
    print(to_json(open_vault().seal_config(from_json(text))))
    return OK


def sorted_labels(hsm_token: Pkcs11Token) -> list[KeyLabel]:
    """List labels by role, issuer and generation."""
    return sorted(
        hsm_token.labels(), key=lambda label: (label.role, label.issuer_id or "", label.generation)
    )


def _import(
    hsm_token: Pkcs11Token, arguments: argparse.Namespace, key: shared_keys.ClearKey
) -> int:
    print("KCV", key.kcv, flush=True)  # whoever pipes the answer in reads this first
    typed = _ask(input, "Compare it with the partner's and type it to import the key: ")
    if typed.strip().upper() != key.kcv:
        raise CeremonyError("that is not the KCV of this key: nothing was imported")
    with hsm_token.alone():
        label = shared_keys.store(hsm_token, arguments.role, arguments.issuer, key)
    return _print_reports([ceremony.report(hsm_token, label)])


def _ask(how: Callable[[str], str], prompt: str) -> str:
    """Ask at the terminal with *how*; what is piped in is read line by line, without a prompt."""
    try:
        # Not left to getpass: it reads the terminal even where standard input is a pipe.
        return how(prompt) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\r\n")
    except EOFError:
        return ""
    except UnicodeDecodeError:
        raise CeremonyError("what was typed is not text: nothing was imported") from None


def _print_reports(reports: Sequence[ceremony.KeyReport]) -> int:
    width = max((len(str(report.label)) for report in reports), default=0)
    for report in reports:
        verdict = "" if report.as_expected else "   ATTRIBUTES ARE NOT THOSE OF ITS ROLE"
        unknown = "".join(
            f"   {attribute} IS NOT KNOWN TO THE DEVICE" for attribute in report.unknown
        )
        print(
            f"{report.label!s:<{width}} {report.kind.value:<10} {_fingerprint_name(report):<12} "
            f"{report.fingerprint}{verdict}{unknown}"
        )
    return OK if all(report.as_expected for report in reports) else REFUSED


def _fingerprint_name(report: ceremony.KeyReport) -> str:
    if report.kind is KeyKind.EC_P256:
        return "thumbprint"
    return "KCV" if report.label.role.per_issuer else "check value"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m hsm", description="Keys of the PIN vault.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser("ceremony", help="make the keys of a role file")
    make.add_argument("file", type=Path)
    make.set_defaults(command=run_ceremony)
    _add_imports(commands)
    commands.add_parser("list", help="show the keys").set_defaults(command=list_keys)
    commands.add_parser("check", help="test the keys").set_defaults(command=check_token)
    jwks = commands.add_parser("jwks", help="print public keys")
    jwks.add_argument("role", choices=list(PublicKeyRole))
    jwks.set_defaults(command=print_jwks)
    configs = commands.add_parser("config", help="vault configuration")
    seal = configs.add_subparsers(required=True, metavar="COMMAND").add_parser("seal")
    seal.add_argument("file", type=Path, help="a JSON file, or - for standard input")
    seal.set_defaults(command=seal_config)
    return parser


def _add_imports(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parts = commands.add_parser("import-components", help="import a key from typed components")
    parts.add_argument("role", type=KeyRole, choices=[KeyRole.BLOCK_PROTECTION])
    parts.add_argument("issuer", type=_issuer_id)
    parts.set_defaults(command=import_components)
    block = commands.add_parser("import-block", help="import a key from a TR-31 key block")
    block.add_argument("role", type=KeyRole, choices=list(shared_keys.PURPOSES))
    block.add_argument("issuer", type=_issuer_id)
    block.add_argument("file", type=Path)
    block.set_defaults(command=import_block)


def _issuer_id(text: str) -> str:
    if not ISSUER_ID_PATTERN.fullmatch(text):
        raise argparse.ArgumentTypeError("not 10 characters, none of them @")
    return text


if __name__ == "__main__":
    sys.exit(main())
