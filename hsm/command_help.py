"""What ``--help`` of a command says beside its arguments: what it does, an example, a page.

Examples are for commands whose words a newcomer would not guess. Each is a command that is taken,
and each page is there: tests see to that.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple


class Example(NamedTuple):
    """Words that can be typed after the name of the program, and a page that tells more."""

    words: str
    page: str


#: Of ``python -m hsm``, by the words of the command.
EXAMPLES: Final[Mapping[str, Example]] = {
    "ceremony": Example(
        "ceremony hsm/roles.toml --custodian cleo.pem --custodian dan.pem --record own.record",
        "docs/real-hsm.md",
    ),
    "import-components": Example(
        "import-components block-protection demobank01 --custodian cleo.pem --custodian dan.pem"
        " --record kbpk.record",
        "docs/key-ceremonies.md",
    ),
    "import-block": Example(
        "import-block zpk demobank01 zpk.tr31 --custodian cleo.pem --custodian dan.pem"
        " --record zpk.record",
        "docs/key-ceremonies.md",
    ),
    "make-key": Example(
        "make-key zpk demobank01 --out zpk.tr31 --custodian cleo.pem --custodian dan.pem"
        " --record zpk.record",
        "docs/key-ceremonies.md",
    ),
    "record show": Example("record show zpk.record --trust trust.json", "docs/key-ceremonies.md"),
    "probe": Example("probe", "docs/hsm-modules.md"),
    "jwks": Example("jwks d1 --manifest current.json", "docs/d1-face.md"),
    "serve": Example("serve", "docs/operating.md"),
    "uses": Example("uses --json", "docs/operating.md"),
    "manifest key": Example("manifest key ann.pem --name Ann", "docs/onboarding.md"),
    "manifest new": Example("manifest new demobank01", "docs/onboarding.md"),
    "manifest change": Example(
        "manifest change current.json policy.length_max=6 --out next.json", "docs/onboarding.md"
    ),
    "manifest sign": Example("manifest sign next.json --key ann.pem", "docs/onboarding.md"),
    "manifest verify": Example(
        "manifest verify next.json --trust trust.json", "docs/onboarding.md"
    ),
    "manifest minimum-versions": Example(
        "manifest minimum-versions demobank01=7 demobank02=3 --out minimum-versions.json",
        "docs/onboarding.md",
    ),
    "manifest begin": Example("manifest begin minimum-versions.json", "docs/onboarding.md"),
    "log verify": Example("log verify /audit/host-1", "docs/auditing.md"),
    "generations new": Example("generations new --out keys-1.json", "docs/key-generations.md"),
    "generations change": Example(
        "generations change keys-2.jws pin.g2=active pin.g1=decrypt-only --out keys-3.json",
        "docs/key-generations.md",
    ),
    "rotate": Example(
        "rotate pin keys-1.jws --out keys-2.json --custodian cleo.pem --custodian dan.pem"
        " --record pin-g2.record",
        "docs/key-generations.md",
    ),
    "destroy-key": Example(
        "destroy-key pin.g1 --custodian cleo.pem --custodian dan.pem --record pin-g1-end.record",
        "docs/key-generations.md",
    ),
    "completion": Example("completion bash", "docs/commands.md"),
}


def explain(program: ArgumentParser, examples: Mapping[str, Example]) -> None:
    """Have ``--help`` of each command say what it does, and show its example."""
    for name, text, command in commands_of(program):
        command.description = text[:1].upper() + text[1:] + "."
        if name in examples:
            words, page = examples[name]
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            command.epilog = f"example:\n  {program.prog} {words}\n\nmore: {page}"


def commands_of(parser: ArgumentParser) -> Iterator[tuple[str, str, ArgumentParser]]:
    """Name every command and every noun of a program, with its line of help and its parser."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no public name for them
        if not isinstance(action, argparse._SubParsersAction):  # noqa: SLF001 - the same
            continue
        for listed in action._choices_actions:  # noqa: SLF001 - the same
            command: ArgumentParser = action.choices[listed.dest]
            yield listed.dest, listed.help or "", command
            for name, text, inner in commands_of(command):
                yield f"{listed.dest} {name}", text, inner
