"""``python -m hsm generations``: what operators decide of the keys, in a table that they sign.

Only ``new`` needs the HSM token; ``change`` asks it for the KCV of a shared key that is
compromised, and does without. Signing, showing and verifying are those of manifests.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from hsm import printing
from hsm.command_line import OK, Commands, add_command
from hsm.manifest.commands import (
    add_keys,
    add_signatures,
    dates_from_now,
    print_body,
    print_signers,
)
from hsm.printing import Result

if TYPE_CHECKING:
    from hsm.manifest.generation_table import GenerationTable, State
    from hsm.pkcs11.keys import KeyLabel

_Listed: TypeAlias = dict[str, dict[str, object]]
TABLE_DAYS: Final = 30
"""How long hosts take a table; one that is taken stays in force."""
LABEL_HELP: Final = "as pin.g2=active; its MAC key goes with a key that seals"


def add_to(commands: Commands) -> None:
    """Add the noun and its commands to the program."""
    noun = commands.add_parser("generations", help="what each key may be used for")
    tables = noun.add_subparsers(required=True, metavar="COMMAND")
    text = "make a draft of the first table, of the keys on the HSM token"
    new = add_command(tables, "new", make_table, text)
    add_out(new)
    printing.add_json(new)
    text = "make the next version of the table, in which keys have other states"
    change = add_command(tables, "change", change_states, text)
    change.add_argument("file", type=Path, metavar="FILE", help="the table that is in force")
    change.add_argument("states", nargs="+", type=_state, metavar="LABEL=STATE", help=LABEL_HELP)
    add_out(change)
    printing.add_json(change)
    show = add_command(tables, "show", print_body, "print what a table says")
    show.add_argument("file", type=Path, metavar="FILE", help="a draft, or signed")
    sign = add_command(tables, "sign", add_signatures, "show what is signed, and sign it")
    sign.add_argument("file", type=Path, metavar="FILE", help="a draft, or signed already")
    add_keys(sign, required=True)
    sign.add_argument("--out", type=Path, metavar="FILE", help="where to; in place unless said")
    printing.add_json(sign)
    verify = add_command(tables, "verify", print_signers, "say who signed, and if enough did")
    verify.add_argument("file", type=Path, metavar="FILE", help="signed")
    text = "the trust file of a host"
    verify.add_argument("--trust", type=Path, required=True, metavar="FILE", help=text)
    printing.add_json(verify)


def add_out(parser: ArgumentParser) -> None:
    """Add the argument that names the draft to be written."""
    text = "where to: a draft, to be signed"
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help=text)


def _state(text: str) -> tuple[str, str]:
    from hsm.errors import CeremonyError
    from hsm.manifest.generation_table import State
    from hsm.pkcs11.keys import KeyLabel

    label, _, state = text.partition("=")
    try:
        return str(KeyLabel.parse(label)), State(state).value
    except (CeremonyError, ValueError):
        raise ArgumentTypeError("not LABEL=STATE, as pin.g2=active") from None


@printing.with_result
def make_table(arguments: Namespace, result: Result) -> int:
    """Write a draft that changes nothing: the oldest keys active, younger ones loaded."""
    from hsm.ceremonies.commands import open_hsm_token
    from hsm.generations import without_table
    from hsm.pkcs11.keyring import Keyring

    keyring = Keyring(open_hsm_token())
    states = {label: without_table(label, keyring.active) for label in keyring.labels}
    write_next(None, states, arguments.out, result)
    return OK


@printing.with_result
def change_states(arguments: Namespace, result: Result) -> int:
    """Write a draft of the next table, and print what differs."""
    from hsm.manifest.generation_table import State
    from hsm.pkcs11.keys import KeyLabel

    states = {KeyLabel.parse(label): State(state) for label, state in arguments.states}
    write_next(read_table(arguments.file), states, arguments.out, result)
    return OK


def read_table(path: Path) -> GenerationTable:
    """Read a table; no signature is checked.

    Raises:
        ManifestRefused: the file cannot be read, or is none.
    """
    from hsm.errors import ManifestRefused
    from hsm.manifest import documents
    from hsm.manifest.generation_table import GenerationTable

    body = documents.content(documents.read(path))
    if not isinstance(body, GenerationTable):
        raise ManifestRefused("not a table of key generations")
    return body


def write_next(
    before: GenerationTable | None, states: Mapping[KeyLabel, State], path: Path, result: Result
) -> None:
    """Write a draft of the next table, and print what differs; a key's MAC key goes with it.

    Args:
        before: the table that is in force; None: there is none.
        states: of the keys that change, or are new.
        path: where to.
        result: gets the changes, and the version and file of the draft.

    Raises:
        ManifestRefused: it cannot follow *before*, or be written.
    """
    from crypto.jose.jws_json import SignedText
    from hsm.manifest import documents, generation_table
    from hsm.manifest.body import canonical_body
    from hsm.manifest.generation_table import State
    from hsm.pkcs11.keys import MAC_ROLES

    old = {} if before is None else before.generations
    dates = dates_from_now(TABLE_DAYS)
    listed: _Listed = {text: one.model_dump(mode="json") for text, one in old.items()}
    partners = {x.of(MAC_ROLES[x.role]): s for x, s in states.items() if x.role in MAC_ROLES}
    changes = []
    for label, state in {**partners, **states}.items():
        text = str(label)
        was = old[text].state if text in old else None
        if was is not state:
            changed = {"state": state.value, "since": dates["valid_from"]}
            listed[text] = {**listed.get(text, {}), **changed}
            print(f"{text}: {was or 'not named'} -> {state}")
            changes.append({"key": text, "from": was, "to": state})
    _note_kcvs(listed, [x for x, s in states.items() if s is State.COMPROMISED])
    version = 1 if before is None else before.version + 1
    body = {**dates, "type": "generations", "version": version, "generations": listed}
    table = generation_table.parse(canonical_body(body))
    if before is not None:
        table.check_follows(before)
    documents.write(path, SignedText(table.canonical(), ()))
    print(f"draft of version {version}: {path}")
    result |= {"changes": changes, "version": version, "draft": str(path)}


def _note_kcvs(listed: _Listed, compromised: Sequence[KeyLabel]) -> None:
    """Write into a table which shared keys must not be imported again, as far as is known here."""
    from hsm.ceremonies import compromised_keys

    unknown = [x for x in compromised if x.role.per_issuer and not listed[str(x)].get("kcv")]
    kcvs = compromised_keys.kcvs_on_token(unknown) if unknown else {}
    for label in unknown:
        listed[str(label)]["kcv"] = kcvs.get(label)
        if label not in kcvs:
            print(f"{label}: its KCV is not known here, so that an import cannot refuse the key")
