"""Where the token is. The PIN that opens it is named by the path of a file."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class HsmTokenSettings(BaseSettings):
    """Read from the environment, each with ``HSM_`` in front, as ``HSM_MODULE``."""

    model_config = SettingsConfigDict(env_prefix="HSM_", frozen=True)

    module: Path
    """The PKCS#11 library, as ``/usr/lib/softhsm/libsofthsm2.so``."""
    module_parameters: str | None = None
    """What that library wants to be told when it is initialised, if anything; its manual says."""
    token_label: str
    """The label of exactly one token behind that library."""
    pin_file: Path
    """A file that holds the user PIN of the token; its last line end is dropped."""
