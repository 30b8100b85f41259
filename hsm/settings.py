"""Where the HSM token is, and the file with the user PIN that opens it."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class HsmTokenSettings(BaseSettings):
    """Read from the environment: each name with ``HSM_`` before it, as ``HSM_MODULE``."""

    model_config = SettingsConfigDict(env_prefix="HSM_", frozen=True)

    module: Path
    """The path of the PKCS#11 library, as ``/usr/lib/softhsm/libsofthsm2.so``."""
    module_parameters: str | None = None
    """A text that some libraries need at initialisation; see the manual of the library."""
    token_label: str
    """The label of the HSM token; that library must know exactly one of this label."""
    pin_file: Path
    """A file with the user PIN of the HSM token; a line end behind the PIN is ignored."""


class VaultSettings(HsmTokenSettings):
    """What the vault needs beside its HSM token."""

    state_directory: Path
    """Where this host keeps its manifests and its log. Only the vault's user may go there."""
    trust_file: Path
    """Whose signatures of manifests count: :mod:`hsm.manifest.trust`. Only root may write it."""
