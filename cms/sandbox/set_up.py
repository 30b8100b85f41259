"""What the demo's first run makes under ``var/``: keys, PKI, database, issuers and sample cards.

It uses the commands that an operator uses, and shows them. D1's side makes keys of its own, which
the issuer imports.
"""

import io
import json
import os
import secrets
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

from cms.sandbox.machine import pki
from cms.sandbox.machine.postgres import Postgres
from cms.sandbox.machine.softhsm import SoftHsm
from cms.sandbox.partners import host_page, identity_provider
from cms.sandbox.partners.d1_client import encrypt, iso0_block

ROOT: Final = Path(__file__).resolve().parents[2]
VAR: Final = ROOT / "var"
ENVIRONMENT: Final = VAR / "demo.env"
SANDBOX: Final = VAR / "sandbox.json"
D1_KEY: Final = VAR / "d1" / "private.jwk"
HOST_KEY: Final = VAR / "host" / "private.jwk"
SECCOS_KEYS: Final = VAR / "d1" / "seccos-keys.json"
CONTROL_TOKEN_KEY: Final = VAR / "control-token.key"
ACCESS_TOKEN: Final = VAR / "app" / "access-token"
#: Written last. A set-up that makes more than the one before it has a higher number.
SET_UP_KIND: Final = VAR / "set-up"
KIND: Final = "4"
ISSUERS: Final = ("demobank01", "demobank02")
#: Test PANs that card schemes and processors publish.
PANS: Final[Mapping[str, Sequence[str]]] = {
    "demobank01": (
        *("4111111111111111", "5555555555554444", "4012888888881881"),
        "6725901234567890125",  # made up, with 19 digits, as a girocard has
    ),
    "demobank02": ("5105105105105100", "6011111111111117"),
}
TRANSCRIPT_CARD: Final = "card-0003"
SECCOS_CARD: Final = "card-0004"
#: Its PIN goes through all faces.
CARDHOLDER_CARD: Final = "card-0001"
PERSONALISED_CARD: Final = "card-0002"
#: The names of cards at the pincontrol face.
PLASTIC_IDS: Final[Mapping[str, str]] = {
    CARDHOLDER_CARD: "90000000000001",
    PERSONALISED_CARD: "90000000000002",
}
#: The identity provider's name for the holder of ``CARDHOLDER_CARD``.
CARDHOLDER: Final = "cardholder-0001"
AUDIENCE: Final = "issuer-pin-service"
APP_SCHEME: Final = "com.example.demo:"
AUDIT_USER: Final = "demo clerk"
CONTROL_TOKEN_KEY_BYTES: Final = 32
PIN_DIGITS: Final = 4
SEQUENCE_NUMBERS: Final[Mapping[str, int]] = {SECCOS_CARD: 1}
EXPIRY_MONTH, EXPIRY_YEAR = "12", "30"
#: TR-31 usage and mode of use: V verifies, D deciphers, G makes.
D1_KEYS: Final = (
    ("seccos-pin", "pinBlock", "P0", "D"),
    ("seccos-prw", "prw", "M6", "V"),
    ("seccos-mac", "mac", "M3", "V"),
)
ISSUER_KEYS: Final = (("pvk", "V2", "G"), ("pvk-3624", "V1", "G"))
#: What the issuer of the SECCOS card makes of every PIN, for its authorisation host.
VERIFICATION: Final = {"pvv": {"key_index": 1}, "offset_3624": {"table": "0123456789012345"}}
TOKEN_PATH: Final = "/authz/d1/v1/oauth2/token"  # noqa: S105 - a path
VALID: Final = {"valid_from": "2020-01-01T00:00:00Z", "valid_until": "2050-01-01T00:00:00Z"}


def is_set_up(postgres: Postgres) -> bool:
    """Tell whether an earlier set-up came to its end and made all that one makes today."""
    kind = SET_UP_KIND.read_text().strip() if SET_UP_KIND.exists() else ""
    return kind == KIND and postgres.has_tables()


def set_up(postgres: Postgres) -> None:
    """Make keys, issuers, clients, configuration and cards, as an operator does.

    The token is new. What an earlier set-up left in the database goes.
    """
    from cms.persistence.migrate import upgrade  # noqa: PLC0415 - a second run does not need it

    print("Setting up under var/ with the commands an operator uses:\n")
    SET_UP_KIND.unlink(missing_ok=True)
    postgres.drop_database("cms")
    postgres.create_database("cms")
    upgrade(postgres.url())
    _command("hsm", "ceremony", "hsm/roles.toml")
    intake = json.loads(_command("hsm", "jwks", "intake", quiet=True))["keys"][0]
    _write(VAR / "d1" / "issuer.jwk", _command("hsm", "jwks", "d1", quiet=True))
    _make_key_pair(D1_KEY)
    _make_key_pair(HOST_KEY)
    _share_keys(ISSUERS[0])
    for issuer in ISSUERS:
        _command("cms", "issuers", "add", issuer, "--name", f"Demo bank {issuer[-1]}")
        _add_client(issuer)
        for kind, body in _configurations(issuer).items():
            _load_config(issuer, kind, body)
        _import_cards(issuer, intake)
    _command("cms", "cards", "personalised", ISSUERS[0], PERSONALISED_CARD)
    _write(SET_UP_KIND, KIND + "\n")


def register_clients(page_port: int) -> None:
    """Register app and server, unless they were: their page may have another port than before."""
    page, issuer = host_page.origin(page_port), ISSUERS[0]
    app, server = _client_key(page_port), _server_user(page_port)
    if not _is_client(app):
        _command(
            *("cms", "clients", "add-app", issuer, app),
            *("--redirect-origin", page, "--redirect-origin", APP_SCHEME, "--embed-origin", page),
        )
    if not _is_client(server):
        password = _password_file(page_port)
        password.parent.mkdir(mode=0o700, exist_ok=True)
        password.unlink(missing_ok=True)
        _command(
            *("cms", "clients", "add-backend", issuer, server),
            *("--password-file", _relative(password)),
            *("--frame-key", _frame_key(page_port), "--frame-origin", page),
        )


def _is_client(name: str) -> bool:
    from cms.operator.cli import main as cms_main  # noqa: PLC0415 - the service's side, as in _command

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return cms_main(("clients", "show", ISSUERS[0], name)) == 0


def _share_keys(issuer: str) -> None:
    """Bring the keys of D1's side, and two of the issuer's own, into the token as key blocks.

    The block-protection key exists here only as long as this takes.
    """
    from cms.sandbox.partners import partner_keys  # noqa: PLC0415 - a second run does not need it

    kbpk = secrets.token_bytes(partner_keys.AES_KEY_BYTES)
    first, second = partner_keys.components(kbpk)
    no_third = ""
    typed = [first, second, no_third, partner_keys.kcv(kbpk)]
    _typed("import-components", "block-protection", issuer, lines=typed)
    sizes_bytes = {"prw": partner_keys.AES_KEY_BYTES}
    d1_keys = {
        name: secrets.token_bytes(sizes_bytes.get(name, partner_keys.TDES_KEY_BYTES))
        for _, name, _, _ in D1_KEYS
    }
    _write(SECCOS_KEYS, json.dumps({name: key.hex().upper() for name, key in d1_keys.items()}))
    shared = [(role, usage, mode, d1_keys[name]) for role, name, usage, mode in D1_KEYS]
    for role, usage, mode in ISSUER_KEYS:
        shared.append((role, usage, mode, secrets.token_bytes(partner_keys.TDES_KEY_BYTES)))
    for role, usage, mode, key in shared:
        file = VAR / "config" / f"{issuer}-{role}.tr31"
        _write(file, partner_keys.key_block(kbpk, key, usage, mode) + "\n")
        _typed("import-block", role, issuer, _relative(file), lines=[partner_keys.kcv(key)])


def _configurations(issuer: str) -> Mapping[str, Mapping[str, object]]:
    """The body of each kind of vault configuration of an issuer."""
    bodies: dict[str, Mapping[str, object]] = {
        "wire": {},
        "policy": {},
        "recipient": {"jwk": _public_jwk(D1_KEY)},
    }
    if issuer == ISSUERS[0]:
        # Off unless an issuer wants it; here, a person is to try text and speech.
        bodies["policy"] = {"text_reveal": True}
        bodies["seccos"] = {}
        bodies["verification"] = VERIFICATION
        bodies["verification-host"] = {"jwk": _public_jwk(HOST_KEY)}
    return bodies


def _add_client(issuer: str) -> None:
    """Register the D1 client of an issuer: a certificate of the shared CA, a secret of its own."""
    name = f"d1-{issuer}"
    certificate = pki.issue_client(VAR / "pki", name, name, "Thales D1 (played by the demo)")
    secret = VAR / "d1" / f"{issuer}.secret"
    secret.unlink(missing_ok=True)
    _command(
        *("cms", "clients", "add", issuer, issuer),
        *("--certificate", _relative(certificate.certificate)),
        *("--secret-file", _relative(secret)),
    )


def _load_config(issuer: str, kind: str, body: Mapping[str, object]) -> None:
    draft = VAR / "config" / f"{issuer}-{kind}.json"
    sealed = _sealed_file(issuer, kind)
    document = {"issuer_id": issuer, "kind": kind, "version": 1, **VALID, "body": body}
    _write(draft, json.dumps(document, indent=2))
    _write(sealed, _command("hsm", "config", "seal", _relative(draft), quiet=True))
    _command("cms", "config", "load", _relative(sealed))


def _sealed_file(issuer: str, kind: str) -> Path:
    return VAR / "config" / f"{issuer}-{kind}.sealed.json"


def _import_cards(issuer: str, intake: Mapping[str, str]) -> None:
    lines = []
    for card in _cards(issuer):
        card_id = card["cardId"]
        row: dict[str, object] = {
            "cardId": card_id,
            "panJwe": encrypt({"pan": card["pan"]}, intake),
            "expiry": EXPIRY_MONTH + EXPIRY_YEAR,
            "psn": SEQUENCE_NUMBERS.get(card_id, 0),
            "state": "inactive" if card_id == TRANSCRIPT_CARD else "active",
        }
        if issuer == ISSUERS[0] and card_id in PLASTIC_IDS:
            # A card that is made with a PIN brings it along.
            block = iso0_block(a_pin(), card["pan"])
            row |= {
                "plasticId": PLASTIC_IDS[card_id],
                "personalised": False,
                "encryptedPinBlock": encrypt({"pinBlock": block}, issuer_jwk()),
            }
            if card_id == CARDHOLDER_CARD:
                row["cardholder"] = CARDHOLDER
        lines.append(json.dumps(row) + "\n")
    file = VAR / "config" / f"{issuer}-cards.jsonl"
    _write(file, "".join(lines))
    _command("cms", "cards", "import", issuer, _relative(file))


def _command(package: str, *words: str, quiet: bool = False) -> str:
    """Run ``python -m PACKAGE …`` inside this process, show it, and return what it printed."""
    from cms.operator.cli import main as cms_main  # noqa: PLC0415 - a second run does not need it
    from hsm.__main__ import main as hsm_main  # noqa: PLC0415

    print(f"$ python -m {package} {shlex.join(words)}")
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = {"cms": cms_main, "hsm": hsm_main}[package](words)
    return _checked(code, printed.getvalue(), quiet=quiet)


def _typed(*words: str, lines: Sequence[str]) -> None:
    """Run ``python -m hsm …`` in a process of its own, as an import should be, and type *lines*."""
    print(f"$ python -m hsm {shlex.join(words)}", flush=True)
    done = subprocess.run(  # noqa: S603 - no word from outside
        [sys.executable, "-m", "hsm", *words],
        cwd=ROOT,
        input="".join(f"{line}\n" for line in lines),
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    _checked(done.returncode, done.stdout)


def _checked(code: int, printed: str, *, quiet: bool = False) -> str:
    if not quiet:
        print("".join(f"  {line}\n" for line in printed.splitlines()), end="")
    if code != 0:
        raise SystemExit(f"the demo could not be set up: exit code {code}")
    return printed


def write_environment(url: str, jwks_url: str) -> None:
    """Write ``var/demo.env`` and use it in this process too.

    To a browser the cardholders' address and the app's page are two sites: an address and a name.
    """
    # A new one at each start: control tokens live for minutes.
    _write(CONTROL_TOKEN_KEY, secrets.token_hex(CONTROL_TOKEN_KEY_BYTES))
    _write(VAR / "database-url", url + "\n")
    ports = {
        "CMS_D1_PORT": free_port(8443),
        "CMS_CARDHOLDER_PORT": free_port(8444),
        "CMS_OPS_PORT": free_port(9090),
    }
    environment = {
        **SoftHsm(VAR / "softhsm").environment,
        **{name: str(port) for name, port in ports.items()},
        "CMS_DATABASE_URL_FILE": str(VAR / "database-url"),
        "CMS_PUBLIC_URL": f"https://localhost:{ports['CMS_D1_PORT']}",
        "CMS_D1_CERTIFICATE_FILE": str(VAR / "pki" / "server.pem"),
        "CMS_D1_KEY_FILE": str(VAR / "pki" / "server.key"),
        "CMS_D1_CLIENT_CA_FILE": str(VAR / "pki" / "ca.pem"),
        "CMS_CARDHOLDER_URL": f"https://127.0.0.1:{ports['CMS_CARDHOLDER_PORT']}",
        "CMS_CARDHOLDER_CERTIFICATE_FILE": str(VAR / "pki" / "server.pem"),
        "CMS_CARDHOLDER_KEY_FILE": str(VAR / "pki" / "server.key"),
        "CMS_CONTROL_TOKEN_KEY_FILE": str(CONTROL_TOKEN_KEY),
        "CMS_IDENTITY_ISSUER": identity_provider.ISSUER,
        "CMS_IDENTITY_AUDIENCE": AUDIENCE,
        "CMS_IDENTITY_JWKS_URL": jwks_url,
    }
    _write(ENVIRONMENT, "".join(f"{name}={value}\n" for name, value in environment.items()))
    os.environ.update(environment)


def write_sandbox(page_port: int) -> None:
    """Write ``var/sandbox.json``, from which any client can play D1, an app, an issuer's server."""
    first = ISSUERS[0]
    document = {
        "baseUrl": base_url(),
        "ca": "var/pki/ca.pem",
        "d1": {
            "clientCert": f"var/pki/d1-{first}.pem",
            "clientKey": f"var/pki/d1-{first}.key",
            "clientId": first,
            "clientSecretFile": f"var/d1/{first}.secret",
            "tokenPath": TOKEN_PATH,
            "issuerJwk": issuer_jwk(),
            "d1PrivateJwkFile": "var/d1/private.jwk",
        },
        "issuers": [{"issuerId": issuer, "cards": _cards(issuer)} for issuer in ISSUERS],
        "hosted": {
            "baseUrl": cardholder_url(),
            "clientKey": _client_key(page_port),
            "accessTokenFile": _relative(ACCESS_TOKEN),
            "issuerId": first,
            "cardId": CARDHOLDER_CARD,
        },
        "pincontrol": {
            "baseUrl": cardholder_url(),
            "user": _server_user(page_port),
            "passwordFile": _relative(_password_file(page_port)),
            "frameKey": _frame_key(page_port),
            "auditUser": AUDIT_USER,
            "issuerId": first,
            "producedPlasticId": PLASTIC_IDS[PERSONALISED_CARD],
            "unproducedPlasticId": PLASTIC_IDS[CARDHOLDER_CARD],
        },
        "seccos": {
            "issuerId": first,
            "cardId": SECCOS_CARD,
            "pan": pan_of(SECCOS_CARD),
            "psn": SEQUENCE_NUMBERS[SECCOS_CARD],
            "expiry": EXPIRY_YEAR + EXPIRY_MONTH,
            "profile": _sealed_body(first, "seccos"),
            "keysFile": _relative(SECCOS_KEYS),
            "type": _sealed_body(first, "wire")["put_pin"]["seccos"][0],
        },
    }
    _write(SANDBOX, json.dumps(document, indent=2) + "\n")


def _cards(issuer: str) -> list[dict[str, str]]:
    return [
        {"cardId": f"card-{number:04}", "pan": pan}
        for number, pan in enumerate(PANS[issuer], start=1)
    ]


def pan_of(card_id: str) -> str:
    """The PAN of a card of the first issuer."""
    return next(card["pan"] for card in _cards(ISSUERS[0]) if card["cardId"] == card_id)


def _sealed_body(issuer: str, kind: str) -> dict[str, Any]:
    """The body of a configuration as it was sealed: every default is written out."""
    body: dict[str, Any] = json.loads(_sealed_file(issuer, kind).read_text())["body"]
    return body


def a_pin() -> str:
    """Draw a PIN with three different digits: no policy calls it weak."""
    pin = ""
    while len(set(pin)) != PIN_DIGITS - 1:
        pin = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}"
    return pin


def issuer_jwk() -> dict[str, str]:
    """The key that D1 encrypts to."""
    key: dict[str, str] = json.loads((VAR / "d1" / "issuer.jwk").read_text())["keys"][0]
    return key


def _make_key_pair(file: Path) -> None:
    """Make the key pair of a partner; its private half never meets the service."""
    from jwcrypto.jwk import JWK  # noqa: PLC0415 - a second run does not need it

    key = JWK.generate(kty="EC", crv="P-256", use="enc")
    members: dict[str, Any] = key.export_private(as_dict=True)
    members["kid"] = key.thumbprint()
    _write(file, json.dumps(members))


def _public_jwk(file: Path) -> dict[str, str]:
    members: dict[str, str] = json.loads(file.read_text())
    del members["d"]
    return members


def base_url() -> str:
    """Where D1 calls."""
    return os.environ["CMS_PUBLIC_URL"]


def cardholder_url() -> str:
    """Where apps and cardholders call."""
    return os.environ["CMS_CARDHOLDER_URL"]


def _client_key(page_port: int) -> str:
    return f"{ISSUERS[0]}-app-{page_port}"


def _server_user(page_port: int) -> str:
    return f"{ISSUERS[0]}-server-{page_port}"


def _password_file(page_port: int) -> Path:
    return VAR / "server" / f"{_server_user(page_port)}.password"


def _frame_key(page_port: int) -> str:
    return f"{ISSUERS[0]}-frame-{page_port}"


def free_port(wanted: int) -> int:
    """Take the port that is *wanted*, or any other when it is in use."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            port_free: int = probe.getsockname()[1]
            return port_free
    raise SystemExit("no free port on this machine")


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
