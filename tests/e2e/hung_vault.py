"""A vault whose token device hangs, for as long as a file is there.

``python -m tests.e2e.hung_vault`` is its supervisor, with more words one of its workers.
"""

import os
import sys
import threading
from pathlib import Path

from crypto.secret import Secret
from hsm.port import CertificateFacts, IssuedAccessToken
from hsm.server import logs, start
from hsm.server.supervisor import Supervisor
from hsm.settings import ServerSettings
from hsm.vault import Vault

HANGS = "hangs"
MODULE = "tests.e2e.hung_vault"


class HungVault(Vault):
    """Well, unless it is asked for an access token while the file is there."""

    def issue_token(
        self, client_id: str, secret: Secret[str], certificate: CertificateFacts
    ) -> IssuedAccessToken:
        if (Path(os.environ["HSM_STATE_DIRECTORY"]) / HANGS).exists():
            threading.Event().wait()
        return super().issue_token(client_id, secret, certificate)


if __name__ == "__main__":
    if sys.argv[1:]:
        setattr(start, "Vault", HungVault)  # noqa: B010 - the name is no part of its interface
        sys.exit(start.main(sys.argv[1:]))
    logs.configure()
    Supervisor(ServerSettings(), [sys.executable, "-m", MODULE, "sandbox"]).run()
