"""The command line: ``python -m cms serve|demo|issuers|cards|clients|config|audit|d1``.

Settings come from the environment; with no ``CMS_`` variable set, from ``var/demo.env``, which the
demo writes. Exit code 0 is success, 1 a service that could not run, 2 a refusal.
"""

import argparse
import sys
from collections.abc import Sequence

from cms.operator import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser, top = cli.operator_parser()
    cli.command(top, "serve", _serve, "run the service")
    cli.command(top, "demo", _demo, "run the demo").add_argument("--once", action="store_true")
    d1 = cli.command(top, "d1", _d1, "play Thales D1's side against the demo")
    d1.add_argument("rest", nargs=argparse.REMAINDER, metavar="activate|set-pin|get-pin|counter …")
    return cli.run(parser.parse_args(argv))


# Each of these needs a part of the program that the operator's commands start faster without.


def _serve(_: argparse.Namespace) -> int:
    from cms import serve  # noqa: PLC0415
    from cms.settings import Settings  # noqa: PLC0415

    return serve.run(Settings())


def _demo(arguments: argparse.Namespace) -> int:
    from cms.sandbox import demo  # noqa: PLC0415

    return demo.run(once=arguments.once)


def _d1(arguments: argparse.Namespace) -> int:
    from cms.sandbox.partners import d1_command  # noqa: PLC0415

    return d1_command.main(arguments.rest)


if __name__ == "__main__":
    sys.exit(main())
