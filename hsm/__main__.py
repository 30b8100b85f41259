"""The vault's command line: ``python -m hsm COMMAND``.

The commands are ``ceremony``, ``import-components``, ``import-block``, ``make-key``, ``record``,
``list``, ``uses``, ``check``, ``probe``, ``jwks``, ``serve``, ``manifest``, ``log``,
``generations``, ``rotate``, ``destroy-key``, ``change-pin`` and ``completion``.
What a command works with (HSM token, vault, libraries) it imports when it runs: ``--help`` loads
none of it.

The HSM token is named by ``HSM_MODULE``, ``HSM_TOKEN_LABEL`` and ``HSM_PIN_FILE``; ``uses``,
``manifest begin``, ``log verify`` without a directory and the ceremonies of custodians also need
``HSM_STATE_DIRECTORY`` and ``HSM_TRUST_FILE``; where the first is set, ``check`` and ``jwks`` go by
the table of key generations there. Exit code 0 is success, 1 a log that is not as it
was written, 2 a refusal, 141 an output that nobody reads on.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hsm import command_help, completion, printing
from hsm.ceremonies import commands as key_commands
from hsm.ceremonies import rotation_commands
from hsm.ceremonies.commands import open_hsm_token, print_reports, report_members
from hsm.command_line import OK, REFUSED, add_command, exit_code
from hsm.hardening import harden
from hsm.log import commands as log_commands
from hsm.manifest import commands as manifest_commands
from hsm.manifest import generation_commands
from hsm.pkcs11.keys import KeyRole
from hsm.port import PublicKeyRole
from hsm.printing import Result

if TYPE_CHECKING:
    from hsm.jose_keys import JoseKeys
    from hsm.pkcs11.keyring import Keyring
    from hsm.pkcs11.own_keys import KeyReport
    from hsm.pkcs11.token import Pkcs11Token


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return exit_code(lambda: _run(program_parser().parse_args(argv)))


def _run(arguments: Namespace) -> int:
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from hsm.errors import HsmError
    from hsm.setting_faults import faults, with_page

    command: Callable[[Namespace], int] = arguments.run
    try:
        return command(arguments)
    except BrokenPipeError:
        raise
    except OSError as error:
        text = ": ".join(str(part) for part in (error.filename, error.strerror) if part)
        print(text, file=sys.stderr)
    except (ValidationError, SettingsError) as error:
        # Settings with a prefix of their own say so by their class.
        second = isinstance(error, ValidationError) and error.title == "ImportTokenSettings"
        print(faults(error, "HSM_IMPORT_" if second else "HSM_"), file=sys.stderr)
    except HsmError as error:
        print(with_page(str(error)) or type(error).__doc__, file=sys.stderr)
    return REFUSED


def program_parser() -> ArgumentParser:
    """Build the parser of every command."""
    parser = ArgumentParser(
        prog="python -m hsm", description="Keys, manifests and log of the PIN vault."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    ceremony = add_command(commands, "ceremony", run_ceremony, "make the keys of a role file")
    ceremony.add_argument("file", type=Path, help="a TOML file of roles, as hsm/roles.toml")
    key_commands.add_custodians(ceremony, required=False)
    printing.add_json(ceremony)
    key_commands.add_to(commands)
    keys = add_command(commands, "list", list_keys, "show the keys")
    printing.add_json(keys, "array of objects")
    uses = add_command(commands, "uses", list_uses, "show how often keys were used at this host")
    printing.add_json(uses, "array of objects")
    check = add_command(commands, "check", check_keys, "test the keys")
    sandbox = "accept an HSM token in software, for trials only"
    check.add_argument("--sandbox", action="store_true", help=sandbox)
    printing.add_json(check)
    text = "say what the HSM token can do, and which faces and profiles that allows"
    probe = add_command(commands, "probe", probe_hsm_token, text)
    printing.add_json(probe)
    jwks = add_command(commands, "jwks", print_jwks, "print public keys")
    roles = [role.value for role in PublicKeyRole]
    jwks.add_argument("role", choices=roles, help="what the keys are for")
    jwks.add_argument(
        "--manifest", type=Path, metavar="FILE", help="a manifest, for what D1 calls our keys"
    )
    server = add_command(commands, "serve", serve, "serve the vault on its sockets")
    server.add_argument("--sandbox", action="store_true", help=sandbox)
    manifest_commands.add_to(commands)
    log_commands.add_to(commands)
    generation_commands.add_to(commands)
    rotation_commands.add_to(commands)
    completion.add_to(commands, parser, "hsm")
    command_help.explain(parser, command_help.EXAMPLES)
    return parser


@printing.with_result
def run_ceremony(arguments: Namespace, result: Result) -> int:
    """Make the keys of a role file that the HSM token lacks; print all of them.

    Custodians must be there, but for an HSM token in software.
    """
    from hsm.pkcs11 import own_keys

    return key_commands.make_own(arguments, own_keys.read_roles(arguments.file), result)


def list_keys(arguments: Namespace) -> int:
    """Print every key of ours on the HSM token, by role, issuer and generation."""
    reports = _reports(open_hsm_token())
    if not arguments.json:
        return print_reports(reports, {})
    printing.print_json(list(map(report_members, reports)))
    return OK if all(report.as_expected for report in reports) else REFUSED


def list_uses(arguments: Namespace) -> int:
    """Print how often keys were used at this host, out of how often they may be."""
    from datetime import UTC, datetime

    from hsm.counts import Counts
    from hsm.key_budgets import key_uses
    from hsm.settings import VaultSettings

    found = key_uses(Counts(VaultSettings().state_directory, lambda: datetime.now(UTC)))
    if arguments.json:
        printing.print_json(list(map(asdict, found)))
        return OK
    if printing.is_for_people():
        shares = ({**asdict(one), "share": f"{one.uses / one.uses_max:.2%}"} for one in found)
        printing.print_table(shares)
        return OK
    for one in found:
        share = one.uses / one.uses_max
        print(f"{one.label:<42} {one.uses:>13,} of {one.uses_max:>13,} {one.unit}  {share:.2%}")
    return OK


@printing.with_result
def check_keys(arguments: Namespace, result: Result) -> int:
    """Compare every key's attributes with its role, then encipher and compare with each.

    Without ``--sandbox`` an HSM token that is for development only is refused before the login.
    """
    from hsm import health
    from hsm.ceremonies import import_tokens
    from hsm.pkcs11 import own_keys
    from hsm.pkcs11.fingerprints import Fingerprints

    hsm_token = open_hsm_token(production=not arguments.sandbox)
    code = print_reports(_reports(hsm_token), result)
    missing = [*own_keys.missing(hsm_token)]
    result |= {"missing": [*map(str, missing)], "all_answer": False}
    for role in missing:
        print(f"missing: {role}", file=sys.stderr)
        code = REFUSED
    for label in import_tokens.misplaced(hsm_token.labels()):
        print(f"{label} opens key blocks with the login that serves: see docs/key-ceremonies.md")
    if code == OK:
        keyring, jose_keys = _open_keys(hsm_token)
        fingerprints = Fingerprints(hsm_token, keyring)
        health.check(hsm_token, jose_keys, keyring.active.values(), fingerprints)
        print("all keys answer")
        result["all_answer"] = True
    return code


def probe_hsm_token(arguments: Namespace) -> int:
    """Try every role with keys of one session; exit code 2 if no face can be served."""
    from hsm.pkcs11 import probe

    hsm_token = open_hsm_token(probing=True)
    found, device = probe.probe(hsm_token), hsm_token.device
    reasons = {profile: found.why_not(profile) for profile in probe.PROFILES}
    if arguments.json:
        members = {
            "hsm_token": asdict(device),
            "unlisted_mechanisms": found.unlisted,
            "unknown_attributes": found.unknown_attributes,
            "profiles": reasons,
        }
        printing.print_json(members)
    else:
        print(f"{device.label!a}, {device.manufacturer!a}, {device.model!a}, {device.serial!a}")
        print("not listed by the module:", ", ".join(found.unlisted) or "none")
        print("attributes that are not known:", ", ".join(found.unknown_attributes) or "none")
        width = max(map(len, reasons))
        for profile, why in reasons.items():
            print(f"{profile:<{width}}  {'; '.join(why) or 'yes'}")
    return REFUSED if next(iter(reasons.values())) else OK


def print_jwks(arguments: Namespace) -> int:
    """Print the public keys of an EC role: what a partner needs to encrypt to us."""
    from hsm.errors import ManifestRefused
    from hsm.manifest import documents

    role = KeyRole(arguments.role)
    own_kids: Mapping[str, int] = {}
    if arguments.manifest is not None:
        if role is not KeyRole.D1:
            raise ManifestRefused("--manifest names keys of role d1 only")
        own_kids = documents.read_manifest(arguments.manifest).wire.jwe.own_kids
    _, jose_keys = _open_keys(open_hsm_token())
    printing.print_json(jose_keys.public_jwks(role, own_kids))
    return OK


def serve(arguments: Namespace) -> int:
    """Serve the vault until SIGTERM.

    Without ``--sandbox`` an HSM token that is for development only is refused before the login.
    """
    from hsm.errors import NotForProduction, VaultUnavailable
    from hsm.server import logs
    from hsm.server.supervisor import serve as supervise
    from hsm.setting_faults import unknown
    from hsm.settings import ServerSettings, VaultSettings, is_import_token_named

    if is_import_token_named():
        raise NotForProduction("HSM_IMPORT_* is set: no machine that serves has that login")
    wrong = unknown("HSM_", VaultSettings, ServerSettings)
    if wrong is not None:
        raise VaultUnavailable(wrong)
    logs.configure()
    supervise(ServerSettings(), sandbox=arguments.sandbox)
    return OK


def _open_keys(hsm_token: Pkcs11Token) -> tuple[Keyring, JoseKeys]:
    """Find the keys that a vault needs, as the table of this host has them where it has one.

    Raises:
        VaultUnavailable: a role has no key.
        ManifestRefused: ``HSM_STATE_DIRECTORY`` is set, and the table there cannot be used.
    """
    from hsm import generations
    from hsm.jose_keys import JoseKeys
    from hsm.pkcs11.keyring import Keyring

    directory = os.environ.get("HSM_STATE_DIRECTORY")
    table = generations.of_host(Path(directory), hsm_token) if directory else None
    keyring = Keyring(hsm_token, table)
    return keyring, JoseKeys(hsm_token, keyring)


def _reports(hsm_token: Pkcs11Token) -> Sequence[KeyReport]:
    from hsm.pkcs11 import own_keys

    labels = sorted(
        hsm_token.labels(), key=lambda label: (label.role, label.issuer_id or "", label.generation)
    )
    return [own_keys.report(hsm_token, label) for label in labels]


if __name__ == "__main__":
    # Some commands hold private keys, passphrases or PANs: a core dump would, too.
    harden()
    sys.exit(main())
