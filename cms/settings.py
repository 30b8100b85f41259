"""Settings of the service, from the environment. Every secret is the path of a file."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

Port = Annotated[int, Field(ge=0, le=65535)]


class DatabaseSettings(BaseSettings):
    """Where Postgres is: all that the operator's commands need."""

    model_config = SettingsConfigDict(env_prefix="CMS_", frozen=True)

    database_url_file: Path
    """A file with one libpq URI, as ``postgresql://user:password@host/database``."""

    def database_url(self) -> str:
        """Read the URI; call it where it is used and keep it nowhere."""
        return self.database_url_file.read_text(encoding="utf-8").strip()


class Settings(DatabaseSettings):
    """``CMS_`` and the name of each field in capitals."""

    public_url: str
    """The address under which D1 reaches us: issuer and audience of our access tokens."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2

    d1_host: str = "127.0.0.1"
    d1_port: Port = 8443
    d1_socket: Path | None = None
    """A unix socket instead of host and port; for a proxy on this machine."""
    d1_mtls_ends: Literal["service", "proxy"] = "service"
    """Where mutual TLS ends. With ``proxy`` the listener speaks plain HTTP."""
    d1_certificate_file: Path | None = None
    d1_key_file: Path | None = None
    d1_client_ca_file: Path | None = None
    d1_proxy_peers: frozenset[str] = frozenset()
    """Addresses whose ``Client-Cert`` header (RFC 9440) counts; ``unix`` for the socket."""

    ops_host: str = "127.0.0.1"
    ops_port: Port = 9090

    vault_deadline_seconds: Annotated[float, Field(gt=0)] = 2.0
    vault_queue_max: Annotated[int, Field(ge=1)] = 64

    @model_validator(mode="after")
    def _mtls_has_an_end(self) -> Self:
        files = (self.d1_certificate_file, self.d1_key_file, self.d1_client_ca_file)
        if self.d1_mtls_ends == "service" and None in files:
            raise ValueError("mutual TLS in the service needs certificate, key and client CA files")
        if self.d1_mtls_ends == "proxy" and not self.d1_proxy_peers:
            raise ValueError("mutual TLS in a proxy needs the peers whose header counts")
        if self.d1_mtls_ends == "service" and self.d1_proxy_peers:
            raise ValueError("proxy peers are set, but mutual TLS ends in the service")
        return self
