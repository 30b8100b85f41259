"""How the commands call the vault of this host: on its admin socket, which no web process has."""

from collections.abc import Iterator
from contextlib import contextmanager

from cms.operator.command_line import Refused
from cms.settings import VaultAddress
from hsm.admin_client import AdminCalls, AdminClient
from hsm.errors import ManifestRefused, VaultUnavailable
from hsm.manifest import model
from hsm.manifest.model import Manifest
from hsm.messages import ReadManifest


@contextmanager
def open_vault() -> Iterator[AdminCalls]:
    """Connect to the vault of this host.

    Raises:
        Refused: it is unavailable, at first or later; says where to look.
        ValidationError: the settings do not name its sockets.
    """
    address = VaultAddress()
    try:
        with AdminClient(address.vault_socket_directory, address.vault_silence_seconds) as vault:
            yield vault
    except VaultUnavailable as error:
        raise Refused(
            f"the vault: {error or VaultUnavailable.__doc__}; see the log of python -m hsm serve,"
            " whether CMS_VAULT_SOCKET_DIRECTORY is its directory, and whether this user is its"
            " HSM_ADMIN_UID: docs/operating.md tells of both"
        ) from None


def read_manifest(vault: AdminCalls, issuer_id: str) -> Manifest:
    """Return the manifest of an issuer that is in force.

    Raises:
        ManifestRefused: there is none.
        HsmError: as the verb does.
    """
    text = vault.call(ReadManifest(issuer_id))
    if text.canonical is None:
        raise ManifestRefused("this host has no manifest of the issuer")
    return model.parse(text.canonical)
