"""Where the HSM token is, and the file with the user PIN that opens it."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field
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


class ServerSettings(BaseSettings):
    """How ``python -m hsm serve`` serves the vault."""

    model_config = SettingsConfigDict(env_prefix="HSM_", frozen=True)

    socket_directory: Path
    """Where the sockets are made. Nobody but the vault's user may write there."""
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """How many processes serve; each has a login of its own at the HSM token."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 5.0
    """How long a verb may run; then its worker is killed and replaced."""
    reopen_seconds: Annotated[float, Field(gt=0)] = 5.0
    """How long a worker waits after it could not open the HSM token before it tries again."""
    d1_uid: int = Field(default_factory=os.getuid)
    """Who may connect to the socket ``d1``."""
    cardholder_uid: int = Field(default_factory=os.getuid)
    """Who may connect to the socket ``cardholder``."""
    admin_uid: int = Field(default_factory=os.getuid)
    """Who may connect to the socket ``admin``."""
    token_issuer: str | None = None
    """Issuer and audience of access tokens: the public URL of the service. None: it issues none."""
