"""The vault in this process, over the HSM token that the environment names."""

from datetime import UTC, datetime

from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import VaultSettings
from hsm.vault import Vault


def open_vault(token_issuer: str | None = None) -> Vault:
    """Open the HSM token and the vault on it; use both on this thread only.

    Args:
        token_issuer: issuer and audience of access tokens; None: it issues none.

    Raises:
        LoginRefused: the HSM token refused the PIN. Do not try again.
        VaultUnavailable: the HSM token is unavailable or lacks a key.
    """
    settings = VaultSettings()
    return vault_over(Pkcs11Token.open(settings), settings, token_issuer)


def vault_over(
    hsm_token: Pkcs11Token, settings: VaultSettings, token_issuer: str | None = None
) -> Vault:
    """Make a vault over an open HSM token; this machine's clock gives the time."""
    return Vault(
        *(hsm_token, settings.state_directory, settings.trust_file),
        lambda: datetime.now(UTC),
        token_issuer,
    )
