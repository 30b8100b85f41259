"""``python -m hsm rotate|destroy-key|change-pin``: what is made in place of another, and its end.

None of them changes what a host does with a key: only the table of key generations does
(:mod:`hsm.manifest.generation_commands`).
"""

from __future__ import annotations

from argparse import ArgumentTypeError, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from hsm import printing
from hsm.ceremonies import commands
from hsm.command_line import OK, Commands, add_command
from hsm.manifest.generation_commands import add_out, read_table, write_next
from hsm.pkcs11.keys import MAC_ROLES, OWN_ROLES, KeyLabel, KeyRole
from hsm.printing import Result

T = TypeVar("T")
ROLES: Final = [role.value for role in OWN_ROLES if role not in MAC_ROLES.values()]
"""Those that are rotated; the key of a MAC goes with the key that seals."""


def add_to(program: Commands) -> None:
    """Add the commands to the program."""
    text = "make the next key of a role, and a draft of the table that makes it active"
    rotate = add_command(program, "rotate", rotate_role, text)
    rotate.add_argument("role", choices=ROLES, help="what the key is for")
    rotate.add_argument("table", type=Path, metavar="TABLE", help="that is in force, signed")
    add_out(rotate)
    commands.add_custodians(rotate, required=False)
    printing.add_json(rotate)
    text = "destroy a key that the table of this host says is destroyed or compromised"
    destroy = add_command(program, "destroy-key", destroy_key, text)
    destroy.add_argument("label", type=_label, help="as pin.g1; its MAC key goes with it")
    commands.add_custodians(destroy)
    printing.add_json(destroy)
    text = "give the HSM token the user PIN that is in a file, in place of the one it has"
    change = add_command(program, "change-pin", change_pin, text)
    change.add_argument("file", type=Path, metavar="FILE", help="with the new PIN")


@printing.with_result
def rotate_role(arguments: Namespace, result: Result) -> int:
    """Make a key that nothing uses yet, and write the draft in which it is active."""
    from hsm.ceremonies import ceremony_record
    from hsm.errors import CeremonyError
    from hsm.manifest.generation_table import State

    role, before = KeyRole(arguments.role), read_table(arguments.table)
    ceremony_record.require_new(arguments.out)
    if role not in before.active:
        raise CeremonyError("the table names no key of this role: make one with generations change")
    hsm_token = commands.open_hsm_token()
    roles = {role, MAC_ROLES.get(role, role)}
    taken = [x for x in (*hsm_token.labels(), *before.states) if x.role in roles]
    hsm_token.close()
    made = KeyLabel(role, max(x.generation for x in taken) + 1)
    code = commands.make_own(arguments, [made.of(one) for one in sorted(roles)], result)
    if code == OK:
        states = {made: State.ACTIVE, before.active[role]: State.DECRYPT_ONLY}
        write_next(before, states, arguments.out, result)
    return code


@printing.with_result
def destroy_key(arguments: Namespace, result: Result) -> int:
    """Have custodians destroy a key."""
    from hsm.ceremonies import key_destruction
    from hsm.terminal import without_echo

    label: KeyLabel = arguments.label
    with without_echo():
        receipt = _uninterrupted(
            lambda: key_destruction.hold(label, arguments.custodian, arguments.record)
        )
    print(f"destroyed: {label}")
    print(f"record {arguments.record}, in the log as {receipt}")
    result |= {"destroyed": str(label), "record": str(arguments.record), "receipt": receipt}
    return OK


def change_pin(arguments: Namespace) -> int:
    """Change the user PIN of the HSM token; ``HSM_PIN_FILE`` has the old one."""
    from crypto.secret import Secret
    from hsm.errors import CeremonyError

    new = Secret(arguments.file.read_text("utf-8").rstrip("\r\n"))
    if not new.reveal():
        raise CeremonyError("the file has no PIN")
    commands.open_hsm_token(writable=True).change_pin(new)
    print(f"the old PIN is refused from now on: name {arguments.file} as HSM_PIN_FILE, restart")
    return OK


def _uninterrupted(hold: Callable[[], T]) -> T:
    from hsm.errors import CeremonyError

    try:
        return hold()
    except KeyboardInterrupt:
        raise CeremonyError("interrupted: no key was destroyed") from None


def _label(text: str) -> KeyLabel:
    from hsm.errors import CeremonyError

    try:
        return KeyLabel.parse(text)
    except CeremonyError:
        raise ArgumentTypeError("not a key label, as pin.g1") from None
