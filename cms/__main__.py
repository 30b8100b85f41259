"""The command line: ``python -m cms serve|issuers|cards|clients|config|verification|audit``.

Settings come from the environment. Exit code 0 is success, 1 a service that could not run, 2 a
refusal.
"""

import argparse
import sys
from collections.abc import Sequence

from cms.operator import cli


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser, top = cli.operator_parser()
    cli.command(top, "serve", _serve, "run the service")
    return cli.run(parser.parse_args(argv))


def _serve(_: argparse.Namespace) -> int:
    # The operator's commands start faster without the service.
    from cms import serve  # noqa: PLC0415
    from cms.settings import Settings  # noqa: PLC0415

    return serve.run(Settings())


if __name__ == "__main__":
    sys.exit(main())
