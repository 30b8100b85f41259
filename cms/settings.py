"""Settings of the service, from the environment. Every secret is the path of a file."""

import re
import socket
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from crypto.secret import Secret
from hsm.setting_faults import file_fault, with_page

Port = Annotated[int, Field(ge=0, le=65535)]
Listener = Literal["d1", "cardholder"]
IPV4_BYTES: Final = 4
LISTENERS: Final[Sequence[Listener]] = ("d1", "cardholder")
CollectorUrl = Annotated[
    str,
    Field(
        pattern=r"^(https://[A-Za-z0-9.-]+|http://(localhost|127\.0\.0\.1|\[::1\]))"
        r"(:[0-9]{1,5})?/[A-Za-z0-9._/-]*$"
    ),
]
HTTPS_ORIGIN: Final = re.compile(r"https://[A-Za-z0-9.-]+(?::[0-9]{1,5})?")


def _https_origin(given: str) -> str:
    if HTTPS_ORIGIN.fullmatch(given) is None:
        raise ValueError("write https:// and a host, without a path or a slash behind it")
    return given


def _address(given: str) -> str:
    """Write an IP address as connections show it."""
    try:
        packed = ip_address(given).packed
    except ValueError:
        raise ValueError("each peer is one IP address: no network, no host name") from None
    return socket.inet_ntop(socket.AF_INET6 if len(packed) > IPV4_BYTES else socket.AF_INET, packed)


def _address_or_unix(given: str) -> str:
    return given if given == "unix" else _address(given)


HttpsOrigin = Annotated[str, AfterValidator(_https_origin)]
Address = Annotated[str, AfterValidator(_address)]
AddressOrUnix = Annotated[str, AfterValidator(_address_or_unix)]


class SettingRefused(Exception):
    """What a setting names cannot be used; it names the setting and shows no value."""


def _split(given: object) -> object:
    return given.split(",") if isinstance(given, str) else given


class DatabaseSettings(BaseSettings):
    """Where Postgres is; the operator's commands need no more of the service."""

    model_config = SettingsConfigDict(env_prefix="CMS_", frozen=True, hide_input_in_errors=True)

    database_url_file: Path
    """A file with one libpq URI, as ``postgresql://user:password@host/database``."""
    database_tls: Literal["verify", "off"] = "verify"
    """Whether a database on another machine must be reached by TLS that verifies it."""

    def database_url(self) -> str:
        """Read the URI; call it where it is used and keep it nowhere."""
        return self.database_url_file.read_text(encoding="utf-8-sig").strip()

    def checked_database_url(self) -> str:
        """Read the URI, for a command and for the start of the service.

        Raises:
            SettingRefused: its file cannot be read, is no text, or is for every user.
        """
        name = "CMS_DATABASE_URL_FILE"
        wrong = file_fault(name, self.database_url_file, is_secret=True)
        if wrong is not None:
            raise SettingRefused(wrong)
        try:
            return self.database_url()
        except UnicodeDecodeError:
            raise SettingRefused(with_page(f"{name}: no text")) from None


class VaultAddress(BaseSettings):
    """Where the vault of this host is, for the service and for the operator's commands."""

    model_config = SettingsConfigDict(env_prefix="CMS_", frozen=True, hide_input_in_errors=True)

    vault_socket_directory: Path
    """Where the sockets of the vault are: ``HSM_SOCKET_DIRECTORY`` of that."""
    vault_silence_seconds: Annotated[float, Field(gt=0)] = 10.0
    """How long the vault may answer nothing while calls wait for it.

    Longer than ``HSM_DEADLINE_SECONDS``, after which the vault replaces a worker that hangs.
    """


class Settings(DatabaseSettings, VaultAddress):
    """``CMS_`` and the name of each field in capitals."""

    listeners: Annotated[
        frozenset[Listener], NoDecode, BeforeValidator(_split), Field(min_length=1)
    ] = frozenset(LISTENERS)
    """Names with commas between them. A process may serve one of the two, as a user of its own."""
    public_url: HttpsOrigin | None = None
    """The address under which D1 reaches us: issuer and audience of our access tokens."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    host_name: str = Field(default_factory=socket.gethostname, min_length=1)
    """By what operators know this host; ``manifest load`` tells which hosts have a manifest."""

    d1_host: str = "127.0.0.1"
    d1_port: Port = 8443
    d1_socket: Path | None = None
    """A unix socket instead of host and port; for a proxy on this machine."""
    d1_mtls_ends: Literal["service", "proxy"] = "service"
    """Where mutual TLS ends. With ``proxy`` the listener speaks plain HTTP."""
    d1_certificate_file: Path | None = None
    d1_key_file: Path | None = None
    d1_client_ca_file: Path | None = None
    d1_proxy_peers: frozenset[AddressOrUnix] = frozenset()
    """Addresses whose ``Client-Cert`` header (RFC 9440) counts; ``unix`` for the socket."""

    cardholder_url: HttpsOrigin | None = None
    """The address that apps and cardholders use; without it there is no such listener."""
    cardholder_host: str = "127.0.0.1"
    cardholder_port: Port = 8444
    cardholder_certificate_file: Path | None = None
    cardholder_key_file: Path | None = None
    """Without the two the listener speaks plain HTTP, for a proxy."""
    cardholder_proxy_peers: frozenset[Address] = frozenset()
    """Addresses whose last ``X-Forwarded-For`` entry counts as the caller's address."""
    control_token_key_file: Path | None = None
    """A file of at least 32 random bytes: keys the hash of control tokens and page sessions."""
    us_base_url: HttpsOrigin | None = None
    """Where requests with ``x-us-env: true`` are forwarded to."""
    us_ca_file: Path | None = None
    """The CAs that the certificate there may lead to, and no others; None: the public ones."""

    ops_host: str = "127.0.0.1"
    ops_port: Port = 9090

    vault_wait_seconds_max: Annotated[float, Field(gt=0)] = 1.0
    """How long a call may be expected to wait for others."""

    traces_url: CollectorUrl | None = None
    """Where spans go by OTLP/HTTP, with its path; None: there are none."""
    traces_ca_file: Path | None = None
    """The CAs that the certificate there may lead to, and no others; None: the public ones."""
    traces_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """The share of requests that is traced, unless a proxy of ours says which."""

    def serves(self, listener: Listener) -> bool:
        """Tell whether this process has a listener; that of cardholders needs an address."""
        return listener in self.listeners and (listener == "d1" or self.cardholder_url is not None)

    @property
    def served(self) -> Sequence[Listener]:
        """The listeners that this process has."""
        return [listener for listener in LISTENERS if self.serves(listener)]

    def control_token_key(self) -> Secret[bytes]:
        """Read the key; call it where it is used and keep it nowhere else."""
        return Secret(Path(str(self.control_token_key_file)).read_bytes())

    @model_validator(mode="after")
    def _cardholders_have_all_they_need(self) -> Self:
        if "d1" not in self.listeners and self.cardholder_url is None:
            raise ValueError("CMS_CARDHOLDER_URL is missing: the listener of cardholders needs it")
        if self.serves("cardholder") and self.control_token_key_file is None:
            raise ValueError(
                "CMS_CONTROL_TOKEN_KEY_FILE is missing: cardholders' listener needs it"
            )
        if (self.cardholder_certificate_file is None) != (self.cardholder_key_file is None):
            raise ValueError(
                "CMS_CARDHOLDER_CERTIFICATE_FILE, CMS_CARDHOLDER_KEY_FILE: both or none"
            )
        return self

    @model_validator(mode="after")
    def _d1_has_all_it_needs(self) -> Self:
        if not self.serves("d1"):
            return self
        if self.public_url is None:
            raise ValueError("CMS_PUBLIC_URL is missing: the D1 listener needs it")
        files = (self.d1_certificate_file, self.d1_key_file, self.d1_client_ca_file)
        if self.d1_mtls_ends == "service" and None in files:
            raise ValueError(
                "CMS_D1_CERTIFICATE_FILE, CMS_D1_KEY_FILE or CMS_D1_CLIENT_CA_FILE is missing:"
                " mutual TLS ends in the service"
            )
        if self.d1_mtls_ends == "proxy" and not self.d1_proxy_peers:
            raise ValueError("CMS_D1_PROXY_PEERS is missing: CMS_D1_MTLS_ENDS is proxy")
        if self.d1_mtls_ends == "service" and self.d1_proxy_peers:
            raise ValueError("CMS_D1_PROXY_PEERS is set, but CMS_D1_MTLS_ENDS is service")
        return self
