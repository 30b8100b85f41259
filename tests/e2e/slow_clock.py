"""A vault on a host whose clock is an hour slow.

``python -m tests.e2e.slow_clock`` is its supervisor, with more words one of its workers.
"""

import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from hsm.pkcs11.hsm_token import HsmToken
from hsm.server import logs, start
from hsm.server.supervisor import Supervisor
from hsm.settings import ServerSettings
from hsm.vault import Vault

MODULE = "tests.e2e.slow_clock"
SLOW = timedelta(hours=1)


def slow_vault(
    hsm_token: HsmToken,
    state_directory: Path,
    trust_file: Path,
    now: Callable[[], datetime],
    token_issuer: str | None,
    to_disk: Callable[[int], None],
) -> Vault:
    """Open a vault that takes the time for an hour earlier."""
    earlier = lambda: now() - SLOW  # noqa: E731
    return Vault(hsm_token, state_directory, trust_file, earlier, token_issuer, to_disk)


if __name__ == "__main__":
    if sys.argv[1:]:
        setattr(start, "Vault", slow_vault)  # noqa: B010 - the name is no part of its interface
        sys.exit(start.main(sys.argv[1:]))
    logs.configure()
    Supervisor(ServerSettings(), [sys.executable, "-m", MODULE, "sandbox"]).run()
