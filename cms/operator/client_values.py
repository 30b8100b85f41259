"""What an operator says of a client, read before it is written: ids, names, origins, secrets."""

import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from cms.operator.command_line import Refused
from hsm import printing

FRAME_KEY_BYTES: Final = 12


def require_id(issuer_id: str, text: str, what: str) -> None:
    """Let an id pass with which a client can sign in.

    Raises:
        Refused: it is another issuer's, or no such id; *what* is what the message calls it.
    """
    from hsm.manifest.clients import CLIENT_ID_PATTERN

    if not text.startswith(issuer_id):
        raise Refused(f"a {what} starts with the id of its issuer")
    if not CLIENT_ID_PATTERN.fullmatch(text):
        raise Refused(f"a {what} is up to 40 letters, digits, '-', '_' and '.'")


def certificate_names(names: Sequence[str], certificates: Sequence[Path]) -> Sequence[str]:
    """Return the names by which a client's certificates are known, as a manifest has them.

    Args:
        names: as :func:`hsm.manifest.certificate_names.parse_name` reads them.
        certificates: PEM files. Of each its subject counts; where it has none, the names of its
            SAN; where it has none of these, its SHA-256.

    Raises:
        Refused: there is none, or one of them is none.
    """
    from hsm.manifest.certificate_names import parse_name
    from hsm.manifest.distinguished_name import NameRefused

    try:
        found = [parse_name(name) for name in names]
    except NameRefused as error:
        raise Refused(str(error)) from None
    for file in certificates:
        found += _names_of(file)
    if not found:
        raise Refused("a client needs --subject or --certificate")
    return list(dict.fromkeys(found))


def _names_of(file: Path) -> Sequence[str]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from cms.domain.errors import Unauthorized
    from cms.services.d1.access import UNREADABLE, read_certificate

    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        return read_certificate(certificate.public_bytes(Encoding.DER)).lasting_names
    except (*UNREADABLE, Unauthorized):
        raise Refused("not a PEM certificate") from None


def redirect_origins(origins: Sequence[str], *, sandbox: bool) -> Sequence[str]:
    """Return where pages may lead; a single empty text stands for nowhere.

    Raises:
        Refused: one is neither an origin nor the scheme of an app.
    """
    from hsm.manifest.origins import is_app_scheme

    own = [origin for origin in origins if is_app_scheme(origin)]
    web_origins([origin for origin in origins if origin not in own], sandbox=sandbox)
    return [] if list(origins) == [""] else origins


def web_origins(origins: Sequence[str], *, sandbox: bool) -> Sequence[str]:
    """Return who may frame pages; a single empty text stands for nobody.

    Raises:
        Refused: one is no origin.
    """
    from hsm.manifest.origins import is_app_origin, is_web_origin

    if list(origins) == [""]:
        return []
    if not all(is_web_origin(text, sandbox=sandbox) or is_app_origin(text) for text in origins):
        raise Refused(
            "an origin is written as a browser does: https://host or https://host:port, no path;"
            " http://localhost:port in a draft for trials; that of an app's webview, as"
            " capacitor://localhost; an app's scheme, for redirects, as com.example:"
        )
    return origins


def frame_key(issuer_id: str, given: str | None, frame_origins: Sequence[str]) -> str | None:
    """Return the key of a server's frames: the one that is given, or one that is made here.

    Without an origin there is nobody to frame its pages, and so no key.

    Raises:
        Refused: it is another issuer's, no such key, or nobody may frame the pages.
    """
    from hsm.manifest.clients import FRAME_KEY_PATTERN

    if given is None:
        return f"{issuer_id}-{secrets.token_urlsafe(FRAME_KEY_BYTES)}" if frame_origins else None
    if not frame_origins:
        raise Refused("a frame key needs --frame-origin: who may frame its pages")
    if not given.startswith(issuer_id) or not FRAME_KEY_PATTERN.fullmatch(given):
        raise Refused(
            "a frame key is up to 64 letters, digits, '-', '_' and '.',"
            " and starts with the id of its issuer"
        )
    return given


def print_frame_key(key: str | None, *, as_json: bool) -> None:
    """Print the key of a server's frames that a command made; None: it made none."""
    if as_json:
        printing.print_json({"frame_key": key})
    elif key is not None:
        print(key)


def view_style(file: Path | None) -> Mapping[str, object]:
    """Read the style of a server's view page.

    Raises:
        Refused: the file holds none; the message names the members at fault.
    """
    from cms.faces.cardholder.page.style import ViewStyle, parse_view
    from crypto.errors import JoseError
    from crypto.jose import json_object

    if file is None:
        return {}
    try:
        style = parse_view(json_object.parse(file.read_text("utf-8-sig").encode()))
    except (JoseError, UnicodeDecodeError):
        raise Refused("a style is a JSON object") from None
    if not isinstance(style, ViewStyle):
        raise Refused("; ".join(f"{error.member}: {error.message}" for error in style))
    return style.members()


def new_secret(file: Path, undo: ExitStack) -> dict[str, object]:
    """Make a secret, write it to a new file of mode 0600, and return it as a manifest has it.

    *undo* removes the file.
    """
    from hsm.manifest import client_secrets

    secret = client_secrets.new_secret()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    undo.callback(file.unlink)
    with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
        opened.write(secret + "\n")
    return {"sha256": client_secrets.hash_secret(secret), "valid_until": None}
