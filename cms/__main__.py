"""The program: ``python -m cms serve``, and the operator's nouns, each with its commands.

Settings come from the environment. Exit code 0 is success, 1 a service that could not run, 2 a
refusal.
"""

import argparse
import sys
from collections.abc import Sequence

from cms.operator import (
    audit,
    cards,
    clients,
    command_line,
    d1,
    generations,
    issuers,
    manifests,
    openapi,
    reseal,
    scripts,
    verification,
)
from cms.operator.examples import EXAMPLES
from hsm import command_help, completion
from hsm.hardening import harden


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    return command_line.run(program_parser(), argv)


def program_parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    parser = argparse.ArgumentParser(prog="python -m cms", description="The issuer PIN service.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    nouns = (
        *(issuers, cards, clients, manifests, verification, scripts, audit, d1, generations),
        reseal,
    )
    for noun in nouns:
        noun.add_to(commands)
    serve = command_line.add_command(commands, "serve", _serve, "run the service")
    text = "accept certificates and secrets that are for trials only"
    serve.add_argument("--sandbox", action="store_true", help=text)
    openapi.add_to(commands)
    completion.add_to(commands, parser, "cms")
    command_help.explain(parser, EXAMPLES)
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    from cms import serve
    from cms.settings import Settings

    return serve.run(Settings(), sandbox=arguments.sandbox)


if __name__ == "__main__":
    # Some commands hold private keys, passphrases or PANs: a core dump would, too.
    harden()
    sys.exit(main())
