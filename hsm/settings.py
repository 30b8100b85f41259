"""Where the HSM token is, and the file with the user PIN that opens it."""

import os
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from hsm.token_uri import TokenUri, TokenUriError


class HsmTokenSettings(BaseSettings):
    """Read from the environment: each name with ``HSM_`` before it, as ``HSM_MODULE``."""

    model_config = SettingsConfigDict(env_prefix="HSM_", frozen=True, hide_input_in_errors=True)

    uri: str | None = None
    """A PKCS#11 URI (:mod:`hsm.token_uri`); what it names needs no variable of its own."""
    module: Path
    """The path of the PKCS#11 library, as ``/usr/lib/softhsm/libsofthsm2.so``."""
    module_parameters: str | None = None
    """A text that some libraries need at initialisation; see the manual of the library."""
    module_locks: bool = True
    """Whether the library is told to lock its state with the locks of this machine
    (``CKF_OS_LOCKING_OK``). Without it, it is told that one thread alone uses it, which is so."""
    module_may_make_threads: bool = True
    """False: the library is told to make none (``CKF_LIBRARY_CANT_CREATE_OS_THREADS``)."""
    token_label: str
    """The label of the HSM token; that library must know exactly one of this label. Empty: any,
    where a URI names the HSM token otherwise."""
    pin_file: Path
    """A file with the user PIN of the HSM token; a line end behind the PIN is ignored."""

    @model_validator(mode="before")
    @classmethod
    def _from_uri(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Take from the URI what no variable names.

        Raises:
            TokenUriError: it is malformed, or a variable names the same.
        """
        if values.get("uri") is None:
            return values
        uri = TokenUri.parse(str(values["uri"]))
        named = {"module": uri.module, "token_label": uri.label, "pin_file": uri.pin_file}
        found = {name: value for name, value in named.items() if value is not None}
        if found.keys() & values.keys():
            raise TokenUriError("HSM_URI names what a variable names, too")
        if uri.names:
            found.setdefault("token_label", "")
        return {**found, **values}

    def variable(self, field: str) -> str:
        """Name the variable that says what *field* is: the URI, where that does."""
        prefix = str(self.model_config["env_prefix"])
        if self.uri is not None:
            uri = TokenUri.parse(self.uri)
            named = {"module": uri.module, "token_label": uri.label, "pin_file": uri.pin_file}
            if named[field] is not None or (field == "token_label" and uri.names):
                return f"{prefix}URI"
        return f"{prefix}{field.upper()}"

    @property
    def token_names(self) -> tuple[tuple[str, str], ...]:
        """By which attributes of RFC 7512 the HSM token is found, and their values."""
        named = () if self.uri is None else TokenUri.parse(self.uri).names
        if "token" in dict(named) or (named and not self.token_label):
            return named
        return (*named, ("token", self.token_label))


class ImportTokenSettings(HsmTokenSettings):
    """A second HSM token of the same module, which holds the keys that open key blocks.

    Each name with ``HSM_IMPORT_`` before it. The module, and how it is initialised, are those of
    the first: a URI names the HSM token and its PIN only.
    """

    model_config = SettingsConfigDict(env_prefix="HSM_IMPORT_")

    @classmethod
    def beside(cls, serving: HsmTokenSettings) -> Self | None:
        """Read where it is; None: no variable names one.

        Raises:
            ValidationError: not all of it is named.
        """
        if not is_import_token_named():
            return None
        return cls(
            module=serving.module,
            module_parameters=serving.module_parameters,
            module_locks=serving.module_locks,
            module_may_make_threads=serving.module_may_make_threads,
        )


def is_import_token_named() -> bool:
    """Tell whether the environment names an HSM token for imports."""
    return any(name.upper().startswith("HSM_IMPORT_") for name in os.environ)


class VaultSettings(HsmTokenSettings):
    """What the vault needs beside its HSM token."""

    state_directory: Path
    """Where this host keeps its manifests and its log. Only the vault's user may go there."""
    trust_file: Path
    """Whose signatures of manifests count: :mod:`hsm.manifest.trust`. Only root may write it."""


class ServerSettings(BaseSettings):
    """How ``python -m hsm serve`` serves the vault."""

    model_config = SettingsConfigDict(env_prefix="HSM_", frozen=True, hide_input_in_errors=True)

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
