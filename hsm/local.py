"""The vault over the PKCS#11 token that the environment names."""

from datetime import UTC, datetime

from hsm.pkcs11 import Pkcs11Token
from hsm.settings import TokenSettings
from hsm.vault import Vault


def open_vault() -> Vault:
    """Open the token and the vault on it; use both on this thread only.

    Raises:
        VaultUnavailable: the token is unavailable or lacks a key.
    """
    return vault_over(Pkcs11Token.open(TokenSettings()))


def vault_over(token: Pkcs11Token) -> Vault:
    """Make a vault over an open token, by this machine's clock."""
    return Vault(token, lambda: datetime.now(UTC))
