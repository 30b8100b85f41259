"""The sandbox's command line: ``python -m cms.sandbox demo|d1|token|cms|hsm``.

``d1`` simulates Thales D1 by hand, ``token`` the identity provider. ``cms`` and ``hsm`` run an
operator's command with the demo's settings of that program, which replace all others. Exit
code 0 is success, 1 a demo or a call of D1 that failed; an operator's command has its own.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

PROGRAM: Final = "python -m cms.sandbox"
OPERATOR_PACKAGES: Final = ("cms", "hsm")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = program_parser().parse_args(argv)
    if arguments.command in OPERATOR_PACKAGES:
        _become(arguments.command, arguments.words)
    if arguments.command == "d1":
        return _d1(arguments.words)
    if arguments.command == "token":
        return _token(arguments.subject, arguments.seconds)
    return _demo(once=arguments.once)


def program_parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description="Try the issuer PIN service on this machine. Never in production."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    demo = commands.add_parser("demo", help="run everything, and its callers against it")
    demo.add_argument("--once", action="store_true", help="end after the conversations")
    token = commands.add_parser(
        "token", help="print an access token of the demo's identity provider for a cardholder"
    )
    token.add_argument("--subject", required=True, help="who it names, as cards do: --cardholder")
    token.add_argument(
        "--seconds",
        type=int,
        default=3600,
        metavar="N",
        help="how long it is valid; 3600 unless said",
    )
    for name, text in (
        ("d1", "simulate Thales D1 by hand: activate, set-pin, get-pin, counter"),
        ("cms", "run 'python -m cms …' with the demo's settings"),
        ("hsm", "run 'python -m hsm …' with the demo's settings"),
    ):
        # What follows is another parser's, options and --help included: here no option exists.
        other = commands.add_parser(name, help=text, add_help=False, prefix_chars="\0")
        other.add_argument("words", nargs=argparse.REMAINDER, help="its words and options")
    return parser


# Each imports what it needs when it is chosen: the help is there at once.


def _demo(*, once: bool) -> int:
    from cms.sandbox import demo  # noqa: PLC0415

    return demo.run(once=once)


def _d1(words: Sequence[str]) -> int:
    from cms.sandbox.partners import d1_command  # noqa: PLC0415

    return d1_command.main(words)


def _token(subject: str, seconds: int) -> int:
    from cms.sandbox import files, manifests  # noqa: PLC0415
    from cms.sandbox.partners.identity_provider import KEY_FILE  # noqa: PLC0415

    if not (files.IDENTITY / KEY_FILE).exists():
        raise SystemExit("there is no identity provider yet: run the demo first")
    print(manifests.identity().issue(subject, seconds=seconds))
    return 0


def _become(package: str, words: Sequence[str]) -> NoReturn:
    """Go on as an operator's command: what runs is that and nothing else."""
    from cms.sandbox import settings  # noqa: PLC0415

    settings.load(package)
    os.execv(sys.executable, [sys.executable, "-m", package, *words])  # noqa: S606 - no shell


if __name__ == "__main__":
    sys.exit(main())
