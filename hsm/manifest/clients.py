"""Clients: who may call for an issuer, and how each proves who it is.

::

    d1       Thales D1: a certificate, and a secret where it asks for access tokens
    app      an app at the hosted face: its id is a public key
    server   an issuer's own server at the pincontrol face: a user name and a password

Of a secret, which is 256 random bits that we made, a manifest holds SHA-256 only.
"""

import re
from collections.abc import Iterable, Set
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import AwareDatetime, Field, field_validator, model_validator

from hsm.manifest import certificate_names
from hsm.manifest.body import Body
from hsm.manifest.origins import is_app_origin, is_app_scheme, is_web_origin

#: No colon: it ends a user name (RFC 7617, section 2). Nor anything that a form writes differently
#: (RFC 6749, section 2.3.1).
CLIENT_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,40}")
#: As it stands in a URL.
FRAME_KEY_PATTERN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
ClientId = Annotated[str, Field(pattern=f"^{CLIENT_ID_PATTERN.pattern}$")]
FrameKey = Annotated[str, Field(pattern=f"^{FRAME_KEY_PATTERN.pattern}$")]
Language = Annotated[str, Field(pattern=r"^[a-z]{2,8}$")]
SECRETS_MAX: Final = 2


class SecretHash(Body):
    """SHA-256 of a secret's text, in lower case hexadecimal, and until when the secret is valid."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """The hash."""
    valid_until: AwareDatetime | None = None
    """None: as long as the manifest is."""


Secrets = Annotated[tuple[SecretHash, ...], Field(max_length=SECRETS_MAX)]


class D1Client(Body):
    """Thales D1. Without a secret its certificate alone names it."""

    kind: Literal["d1"]
    """Thales D1."""
    client_id: ClientId
    """Its id at the token endpoint."""
    certificates: Annotated[tuple[str, ...], Field(min_length=1)]
    """By what its certificates are known, as :mod:`hsm.manifest.certificate_names` writes them."""
    secrets: Secrets = ()
    """For access tokens; the second is the one before, for as long as it is valid."""

    def is_registered(self, names: Set[str]) -> bool:
        """Tell whether a certificate that has these names is one of its own.

        Other issuers have certificates of the same CA: the chain alone proves little.
        """
        return not names.isdisjoint(self.certificates)

    @field_validator("certificates")
    @classmethod
    def _are_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(certificate_names.is_canonical, names)):
            raise ValueError("not the name of a certificate as it is compared")
        if len({*names}) != len(names):
            raise ValueError("a name stands twice")
        return names


class AppClient(Body):
    """An app, known by a public key."""

    kind: Literal["app"]
    """An app at the hosted face."""
    client_id: ClientId
    """Its client key, ``x-client-key``."""
    redirect_origins: tuple[str, ...] = ()
    """Where its pages may lead: origins, and schemes of apps."""
    embed_origins: tuple[str, ...] = ()
    """Who may frame its pages."""
    failure_image_status: Literal[200, 410] = 410
    """The status of an image that says why there is none; some loaders drop what is not 200."""
    language: Language | None = None
    """Of its pages; None: as the browser asks."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Every origin that it registered."""
        return (*self.redirect_origins, *self.embed_origins)

    @model_validator(mode="after")
    def _registers_origins(self) -> "AppClient":
        own = {text for text in self.redirect_origins if is_app_scheme(text)}
        _require_origins(text for text in self.origins if text not in own)
        _require_origins(self.embed_origins)
        return self


class ServerClient(Body):
    """An issuer's own server, known by a password, and the pages that it opens."""

    kind: Literal["server"]
    """A server at the pincontrol face."""
    client_id: ClientId
    """Its user name, for HTTP Basic."""
    secrets: Annotated[Secrets, Field(min_length=1)]
    """Its password; the second is the one before, for as long as it is valid."""
    frame_key: FrameKey | None = None
    """The key of its frames; without one nobody may frame its pages."""
    frame_origins: tuple[str, ...] = ()
    """Who may frame its pages."""
    show_button: bool = True
    """Whether the page has a button of its own to set the PIN."""
    hide_seconds: Annotated[int, Field(ge=5, le=120)] = 30
    """How long a PIN is shown."""
    view_style: dict[str, Any] = Field(default_factory=dict)
    """``digitColor``, ``backgroundColor``, ``frameColor`` and ``widthPx`` of the image."""
    language: Language | None = None
    """Of its pages; None: as the browser asks."""

    @property
    def origins(self) -> tuple[str, ...]:
        """Every origin that it registered."""
        return self.frame_origins

    @model_validator(mode="after")
    def _frames_have_a_key(self) -> "ServerClient":
        if (self.frame_key is None) != (not self.frame_origins):
            raise ValueError("a frame key and frame origins go together")
        _require_origins(self.frame_origins)
        return self


Client: TypeAlias = Annotated[D1Client | AppClient | ServerClient, Field(discriminator="kind")]


def only_in_a_sandbox(client: D1Client | AppClient | ServerClient) -> bool:
    """Tell whether a client registers an origin that is allowed in a sandbox only."""
    origins = () if isinstance(client, D1Client) else client.origins
    return any(text.startswith("http:") for text in origins)


def _require_origins(origins: Iterable[str]) -> None:
    if not all(is_web_origin(text, sandbox=True) or is_app_origin(text) for text in origins):
        raise ValueError("not an origin as a browser writes it")
