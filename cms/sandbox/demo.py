"""The demo: a whole deployment on this machine, under ``var/``, and D1's side of a conversation.

The first run makes token, keys, PKI, database and samples with the commands an operator uses, and
shows them. Later runs start what is there. Nothing listens beyond this machine.
"""

import io
import json
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

from cms.sandbox import pki
from cms.sandbox.d1_client import D1Client, D1Error, encrypt, load
from cms.sandbox.postgres import Postgres, PostgresError, exit_on_sigterm
from cms.sandbox.softhsm import SoftHsm, SoftHsmError
from cms.sandbox.transcript import Step, TranscriptError, transcript

ROOT: Final = Path(__file__).resolve().parents[2]
VAR: Final = ROOT / "var"
ENVIRONMENT: Final = VAR / "demo.env"
SANDBOX: Final = VAR / "sandbox.json"
ISSUERS: Final = ("demobank01", "demobank02")
#: Test PANs that card schemes and processors publish.
PANS: Final[Mapping[str, Sequence[str]]] = {
    "demobank01": ("4111111111111111", "5555555555554444", "4012888888881881"),
    "demobank02": ("5105105105105100", "6011111111111117"),
}
TRANSCRIPT_CARD: Final = "card-0003"
TOKEN_PATH: Final = "/authz/d1/v1/oauth2/token"  # noqa: S105 - a path
VALID: Final = {"valid_from": "2020-01-01T00:00:00Z", "valid_until": "2050-01-01T00:00:00Z"}
READY_SECONDS_MAX: Final = 30.0
STOP_SECONDS_MAX: Final = 10.0
PIN_DIGITS: Final = 4
#: Whatever becomes of the demo, the kernel ends the service with it.
ENDS_WITH_THE_DEMO: Final = ("setpriv", "--pdeathsig=TERM")


def run(*, once: bool) -> int:
    """Run the demo; with *once*, end after the transcript."""
    exit_on_sigterm()
    os.umask(0o077)
    VAR.mkdir(exist_ok=True)
    VAR.chmod(0o700)
    started = time.monotonic()
    try:
        made_token = SoftHsm(VAR / "softhsm").ensure()
        pki.ensure(VAR / "pki")
        with Postgres(VAR / "postgres") as postgres:
            _write_environment(postgres.url())
            if made_token or not SANDBOX.exists() or not postgres.has_tables():
                _set_up(postgres)
            _write_sandbox()
            with _service() as serving:
                print(f"\nServing on {_base_url()} after {time.monotonic() - started:.1f} s.\n")
                _show(_converse())
                _say_what_next()
                if not once:
                    serving.wait()
                    print("The service ended; its log is var/service.log", file=sys.stderr)
                    return 1
    except (SoftHsmError, PostgresError, D1Error, TranscriptError) as error:
        print(f"the demo ended: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
    return 0


def _set_up(postgres: Postgres) -> None:
    """Make keys, issuers, clients, configuration and cards, as an operator does.

    What an earlier set-up that was interrupted left in the database goes; keys stay.
    """
    from cms.persistence.migrate import upgrade  # noqa: PLC0415 - a second run does not need it

    print("Setting up under var/ with the commands an operator uses:\n")
    SANDBOX.unlink(missing_ok=True)
    postgres.drop_database("cms")
    postgres.create_database("cms")
    upgrade(postgres.url())
    _command("hsm", "ceremony", "hsm/roles.toml")
    intake = json.loads(_command("hsm", "jwks", "intake", quiet=True))["keys"][0]
    _write(VAR / "d1" / "issuer.jwk", _command("hsm", "jwks", "d1", quiet=True))
    _make_d1_key()
    for issuer in ISSUERS:
        _command("cms", "issuers", "add", issuer, "--name", f"Demo bank {issuer[-1]}")
        _add_client(issuer)
        for kind, body in (("wire", {}), ("policy", {}), ("recipient", {"jwk": _d1_public_jwk()})):
            _load_config(issuer, kind, body)
        _import_cards(issuer, intake)


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
    sealed = VAR / "config" / f"{issuer}-{kind}.sealed.json"
    document = {"issuer_id": issuer, "kind": kind, "version": 1, **VALID, "body": body}
    _write(draft, json.dumps(document, indent=2))
    _write(sealed, _command("hsm", "config", "seal", _relative(draft), quiet=True))
    _command("cms", "config", "load", _relative(sealed))


def _import_cards(issuer: str, intake: Mapping[str, str]) -> None:
    lines = []
    for card in _cards(issuer):
        state = "inactive" if card["cardId"] == TRANSCRIPT_CARD else "active"
        pan_jwe = encrypt({"pan": card["pan"]}, intake)
        row = {"cardId": card["cardId"], "panJwe": pan_jwe, "expiry": "1230", "state": state}
        lines.append(json.dumps(row) + "\n")
    file = VAR / "config" / f"{issuer}-cards.jsonl"
    _write(file, "".join(lines))
    _command("cms", "cards", "import", issuer, _relative(file))


def _command(package: str, *words: str, quiet: bool = False) -> str:
    """Run ``python -m PACKAGE …`` inside this process, show it, and return what it printed."""
    from cms.cli import main as cms_main  # noqa: PLC0415 - a second run does not need it
    from hsm.__main__ import main as hsm_main  # noqa: PLC0415

    print(f"$ python -m {package} {shlex.join(words)}")
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = {"cms": cms_main, "hsm": hsm_main}[package](words)
    if printed.getvalue() and not quiet:
        print("".join(f"  {line}\n" for line in printed.getvalue().splitlines()), end="")
    if code != 0:
        raise SystemExit(f"the demo could not be set up: exit code {code}")
    return printed.getvalue()


def _write_environment(url: str) -> None:
    """Write ``var/demo.env`` and use it in this process too."""
    _write(VAR / "database-url", url + "\n")
    ports = {"CMS_D1_PORT": _free_port(8443), "CMS_OPS_PORT": _free_port(9090)}
    environment = {
        **SoftHsm(VAR / "softhsm").environment,
        **ports,
        "CMS_DATABASE_URL_FILE": str(VAR / "database-url"),
        "CMS_PUBLIC_URL": f"https://localhost:{ports['CMS_D1_PORT']}",
        "CMS_D1_CERTIFICATE_FILE": str(VAR / "pki" / "server.pem"),
        "CMS_D1_KEY_FILE": str(VAR / "pki" / "server.key"),
        "CMS_D1_CLIENT_CA_FILE": str(VAR / "pki" / "ca.pem"),
    }
    _write(ENVIRONMENT, "".join(f"{name}={value}\n" for name, value in environment.items()))
    os.environ.update(environment)


def _write_sandbox() -> None:
    """Write ``var/sandbox.json``, from which any client can play D1's side."""
    first = ISSUERS[0]
    issuer_jwk = json.loads((VAR / "d1" / "issuer.jwk").read_text())["keys"][0]
    document = {
        "baseUrl": _base_url(),
        "ca": "var/pki/ca.pem",
        "d1": {
            "clientCert": f"var/pki/d1-{first}.pem",
            "clientKey": f"var/pki/d1-{first}.key",
            "clientId": first,
            "clientSecretFile": f"var/d1/{first}.secret",
            "tokenPath": TOKEN_PATH,
            "issuerJwk": issuer_jwk,
            "d1PrivateJwkFile": "var/d1/private.jwk",
        },
        "issuers": [{"issuerId": issuer, "cards": _cards(issuer)} for issuer in ISSUERS],
    }
    _write(SANDBOX, json.dumps(document, indent=2) + "\n")


@contextmanager
def _service() -> Iterator[subprocess.Popen[bytes]]:
    """Run ``python -m cms serve`` until the block ends; its log is ``var/service.log``."""
    with (VAR / "service.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - no word from outside
            [*ENDS_WITH_THE_DEMO, sys.executable, "-m", "cms", "serve"],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_ready(process)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_ready(process: subprocess.Popen[bytes]) -> None:
    url = f"http://127.0.0.1:{os.environ['CMS_OPS_PORT']}/readyz"
    deadline = time.monotonic() + READY_SECONDS_MAX
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=1) as answer:
                if answer.status == 200:  # noqa: PLR2004 - the status of a ready service
                    return
        except OSError:
            time.sleep(0.05)
    raise SystemExit("the service did not start; its log is var/service.log")


def _converse() -> Iterator[Step]:
    pan = next(card["pan"] for card in _cards(ISSUERS[0]) if card["cardId"] == TRANSCRIPT_CARD)
    with D1Client(load(SANDBOX)) as client:
        yield from transcript(client, TRANSCRIPT_CARD, pan, _two_pins())


def _show(steps: Iterator[Step]) -> None:
    print(f"  {'Thales D1 calls':<36}{'HTTP':<6}{'ms':>7}   what it shows")
    for step in steps:
        print(f"  {step.call:<36}{step.status:<6}{step.milliseconds:>7.1f}   {step.shows}")


def _say_what_next() -> None:
    print(
        """
Try next, in another terminal of this directory (. .venv/bin/activate):

  python -m cms d1 counter card-0001         how often the PIN of a card was changed
  python -m cms d1 set-pin card-0001         set it, as D1 does
  python -m cms d1 get-pin card-0001         read it back, as D1 does
  python -m cms audit list demobank01        what the issuer sees of it
  python -m cms cards state demobank01 card-0001 blocked
  python -m hsm list                         the keys, all inside the token

var/sandbox.json tells a client of your own all it needs. var/service.log is the service's log.
"""
    )


def _two_pins() -> tuple[str, str]:
    """Draw two different PINs with three different digits each: no policy calls those weak."""
    first, second = "", ""
    while len(set(first)) != PIN_DIGITS - 1:
        first = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}"
    while len(set(second)) != PIN_DIGITS - 1 or second == first:
        second = f"{secrets.randbelow(10**PIN_DIGITS):0{PIN_DIGITS}}"
    return first, second


def _cards(issuer: str) -> list[dict[str, str]]:
    return [
        {"cardId": f"card-{number:04}", "pan": pan}
        for number, pan in enumerate(PANS[issuer], start=1)
    ]


def _make_d1_key() -> None:
    """Make the key pair of D1's side; its private half never meets the service."""
    from jwcrypto.jwk import JWK  # noqa: PLC0415 - a second run does not need it

    key = JWK.generate(kty="EC", crv="P-256", use="enc")
    members: dict[str, Any] = key.export_private(as_dict=True)
    members["kid"] = key.thumbprint()
    _write(VAR / "d1" / "private.jwk", json.dumps(members))


def _d1_public_jwk() -> dict[str, str]:
    members: dict[str, str] = json.loads((VAR / "d1" / "private.jwk").read_text())
    del members["d"]
    return members


def _base_url() -> str:
    return os.environ["CMS_PUBLIC_URL"]


def _free_port(wanted: int) -> str:
    """Take the port that is *wanted*, or any other when it is in use."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return str(probe.getsockname()[1])
    raise SystemExit("no free port on this machine")


def _relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
