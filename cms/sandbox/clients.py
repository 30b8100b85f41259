"""The clients of the demo's issuers: D1, an app, an issuer's server."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cms.sandbox import files, manifests
from cms.sandbox.cards import ISSUERS
from cms.sandbox.machine import pki
from cms.sandbox.operator_commands import run
from cms.sandbox.partners import host_page

APP_SCHEME: Final = "com.example.demo:"


def add_d1(issuer: str, draft: Path) -> None:
    """Add D1 to the draft of a manifest: a certificate of the shared CA, a secret of its own."""
    name = f"d1-{issuer}"
    certificate = pki.issue_client(files.PKI, name, name, "Thales D1 (simulated by the demo)")
    secret = d1_secret_file(issuer)
    secret.unlink(missing_ok=True)
    run(
        *("cms", "clients", "add", files.relative(draft), issuer),
        *("--certificate", files.relative(certificate.certificate)),
        *("--secret-file", files.relative(secret)),
    )


def d1_secret_file(issuer: str) -> Path:
    """Return the file of D1's OAuth secret."""
    return files.D1_SIDE / f"{issuer}.secret"


@dataclass(frozen=True)
class PageClients:
    """The app and the server of the first issuer whose web page is at a port of this machine.

    A page at another port has another origin, and so clients of its own.
    """

    page_port: int

    @property
    def app_key(self) -> str:
        """The app's public key at the hosted face."""
        return f"{ISSUERS[0]}-app-{self.page_port}"

    @property
    def server_user(self) -> str:
        """The server's name at the pincontrol face."""
        return f"{ISSUERS[0]}-server-{self.page_port}"

    @property
    def server_password_file(self) -> Path:
        """The file of the server's password."""
        return files.SERVER_SIDE / f"{self.server_user}.password"

    @property
    def frame_key(self) -> str:
        """The key of the server's iframes."""
        return f"{ISSUERS[0]}-frame-{self.page_port}"

    def register(self) -> None:
        """Have both in the issuer's manifest: sign and load the next one, unless they are."""
        known = {client["client_id"] for client in manifests.newest(ISSUERS[0])["clients"]}
        if {self.app_key, self.server_user} <= known:
            return
        page, password = host_page.origin(self.page_port), self.server_password_file
        password.parent.mkdir(mode=0o700, exist_ok=True)
        password.unlink(missing_ok=True)
        with manifests.following(ISSUERS[0]) as draft:
            run(
                *("cms", "clients", "add-app", files.relative(draft), self.app_key),
                *("--redirect-origin", page, "--redirect-origin", APP_SCHEME),
                *("--embed-origin", page),
            )
            run(
                *("cms", "clients", "add-backend", files.relative(draft), self.server_user),
                *("--password-file", files.relative(password)),
                *("--frame-key", self.frame_key, "--frame-origin", page),
            )
