"""Ask for a token of a service whose token device hangs, in a process that it costs.

Prints the answer as JSON, then waits for the service to end this process.
"""

import asyncio
import json
import sys
import threading

import httpx

from cms.app import create_app
from cms.faces.d1.oauth import TOKEN_PATH
from cms.sandbox import HANG_SECONDS
from cms.settings import Settings
from crypto.secret import Secret
from hsm.pkcs11.token import Pkcs11Token
from hsm.port import CertificateFacts, IssuedAccessToken
from hsm.settings import VaultSettings
from hsm.vault import Vault
from tests.issuer_records import SECRET, certificate
from tests.operators import now
from tests.service import with_certificate


class HungVault(Vault):
    """Well until it is asked for an access token."""

    def issue_token(
        self, client_id: str, secret: Secret[str], certificate: CertificateFacts
    ) -> IssuedAccessToken:
        threading.Event().wait()
        raise AssertionError(client_id, secret, certificate)


def open_hung_vault(token_issuer: str) -> Vault:
    settings = VaultSettings()
    hsm_token = Pkcs11Token.open(settings)
    return HungVault(hsm_token, settings.state_directory, settings.trust_file, now, token_issuer)


async def main(issuer_id: str) -> None:
    application = create_app(Settings(), open_hung_vault)
    worker_thread = application.health.worker_thread
    deadline_seconds, worker_thread._deadline_seconds = (
        worker_thread._deadline_seconds,
        HANG_SECONDS,
    )
    app = with_certificate(application.listeners["d1"], certificate(f"d1-{issuer_id}"))
    async with (
        application.running(),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://pins") as d1,
    ):
        before = application.health.ready
        # Only the verb that hangs meets the deadline, not one that a busy machine delays.
        worker_thread._deadline_seconds = deadline_seconds
        loop = asyncio.get_running_loop()
        loop.call_soon(worker_thread._watch, loop)
        answer = await d1.post(
            TOKEN_PATH, data={"grant_type": "client_credentials"}, auth=(issuer_id, SECRET)
        )
        seen = {
            "status": answer.status_code,
            "retry_after": answer.headers.get("Retry-After"),
            "ready": [before, application.health.ready],
        }
        sys.stdout.write(json.dumps(seen))
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
