"""Where the token is. The PIN that opens it is named by the path of a file."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


class TokenSettings(BaseSettings):
    """Read from the environment: ``HSM_MODULE``, ``HSM_TOKEN_LABEL``, ``HSM_PIN_FILE``."""

    model_config = SettingsConfigDict(env_prefix="HSM_", frozen=True)

    module: Path
    """The PKCS#11 library, as ``/usr/lib/softhsm/libsofthsm2.so``."""
    token_label: str
    """The label of exactly one token behind that library."""
    pin_file: Path
    """A file that holds the user PIN of the token; its last line end is dropped."""
