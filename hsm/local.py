"""The vault over the PKCS#11 token that the environment names."""

from datetime import UTC, datetime

from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings
from hsm.vault import Vault


def open_vault() -> Vault:
    """Open the token and the vault on it; use both on this thread only.

    Raises:
        VaultUnavailable: the token is unavailable or lacks a key.
    """
    return vault_over(Pkcs11Token.open(HsmTokenSettings()))


def vault_over(hsm_token: Pkcs11Token) -> Vault:
    """Make a vault over an open token, by this machine's clock."""
    return Vault(hsm_token, lambda: datetime.now(UTC))
