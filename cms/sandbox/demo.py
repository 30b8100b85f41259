"""The demo: a whole deployment on this machine, under ``var/``, and its partners' conversations.

The first run sets everything up (:mod:`cms.sandbox.set_up`), later runs start what is there.
Nothing listens beyond this machine.
"""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final
from urllib.request import urlopen

from cms.sandbox.machine import pki
from cms.sandbox.machine.postgres import Postgres, PostgresError, exit_on_sigterm
from cms.sandbox.machine.softhsm import SoftHsm, SoftHsmError
from cms.sandbox.partners import d1_seccos, hosted_client, pincontrol_client
from cms.sandbox.partners.d1_client import D1Client, D1Error, load
from cms.sandbox.partners.host_page import HostPage
from cms.sandbox.partners.hosted_client import HostedClient, HostedError
from cms.sandbox.partners.identity_provider import IdentityProvider
from cms.sandbox.partners.pincontrol_client import PinControlClient, PinControlError
from cms.sandbox.partners.transcript import (
    Step,
    TranscriptError,
    hosted_transcript,
    pincontrol_transcript,
    seccos_transcript,
    transcript,
)
from cms.sandbox.partners.verification_host import ExportError, kinds_by_card
from cms.sandbox.set_up import (
    ACCESS_TOKEN,
    AUDIENCE,
    CARDHOLDER,
    CARDHOLDER_CARD,
    HOST_KEY,
    ISSUERS,
    PERSONALISED_CARD,
    ROOT,
    SANDBOX,
    SECCOS_CARD,
    TRANSCRIPT_CARD,
    VAR,
    a_pin,
    base_url,
    cardholder_url,
    free_port,
    is_set_up,
    pan_of,
    register_clients,
    set_up,
    write_environment,
    write_sandbox,
)

READY_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 10.0
PAGE_PORT: Final = 8445
#: The demo may be left running.
ACCESS_TOKEN_SECONDS: Final = 24 * 3600
ERRORS: Final = (
    *(SoftHsmError, PostgresError),
    *(D1Error, HostedError, PinControlError, TranscriptError, ExportError),
)
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
        token = SoftHsm(VAR / "softhsm")
        new_token = token.ensure()
        pki.ensure(VAR / "pki")
        with (
            Postgres(VAR / "postgres") as postgres,
            IdentityProvider(VAR / "identity", AUDIENCE) as identity,
        ):
            write_environment(postgres.url(), identity.jwks_url)
            if new_token or not is_set_up(postgres):
                if not new_token:
                    # Of a set-up that was interrupted, or is older; imported once more, a key
                    # would be the second generation, and the configuration names the first.
                    token.remove()
                    token.ensure()
                set_up(postgres)
            page_port = free_port(PAGE_PORT)
            register_clients(page_port)
            _log_in(identity)
            write_sandbox(page_port)
            with _service() as serving, _host_page(page_port) as page:
                print(
                    f"\nServing D1 on {base_url()} and cardholders on {cardholder_url()} "
                    f"after {time.monotonic() - started:.1f} s.\n"
                )
                _show("Thales D1 calls", _converse())
                print()
                _show("An app, and its cardholder, call", _converse_as_app())
                print()
                _show("An issuer's server and app call", _converse_as_server())
                _show_verification_values()
                _say_what_next(page.url)
                if once:
                    print("This run ends here. Without --once the demo keeps serving.\n")
                else:
                    serving.wait()
                    print("The service ended; its log is var/service.log", file=sys.stderr)
                    return 1
    except ERRORS as error:
        print(f"the demo ended: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
    return 0


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
    with D1Client(load(SANDBOX)) as client:
        yield from transcript(client, TRANSCRIPT_CARD, pan_of(TRANSCRIPT_CARD), _two_pins())
        yield from seccos_transcript(client, d1_seccos.load(SANDBOX), _two_pins())


def _converse_as_app() -> Iterator[Step]:
    with HostedClient(hosted_client.load(SANDBOX)) as app, D1Client(load(SANDBOX)) as client:
        pan = pan_of(CARDHOLDER_CARD)
        yield from hosted_transcript(app, client, CARDHOLDER_CARD, pan, a_pin())


def _converse_as_server() -> Iterator[Step]:
    with (
        PinControlClient(pincontrol_client.load(SANDBOX)) as server,
        HostedClient(hosted_client.load(SANDBOX)) as app,
        D1Client(load(SANDBOX)) as client,
    ):
        pan = pan_of(CARDHOLDER_CARD)
        yield from pincontrol_transcript(server, app, client, CARDHOLDER_CARD, pan, a_pin())


def _log_in(identity: IdentityProvider) -> None:
    """Give the app what its cardholder would get from the identity provider."""
    ACCESS_TOKEN.parent.mkdir(mode=0o700, exist_ok=True)
    identity.write_token(ACCESS_TOKEN, CARDHOLDER, seconds=ACCESS_TOKEN_SECONDS)


def _host_page(port: int) -> HostPage:
    pki_files = VAR / "pki"
    app, server = hosted_client.load(SANDBOX), pincontrol_client.load(SANDBOX)
    return HostPage(app, server, pki_files / "server.pem", pki_files / "server.key", port)


def _show_verification_values() -> None:
    """Open what the issuer's authorisation host gets; name the values and show none."""
    words = ("cms", "verification", "export", ISSUERS[0])
    print(f"\n$ python -m {shlex.join(words)}", flush=True)
    done = subprocess.run(  # noqa: S603 - no word from outside
        [sys.executable, "-m", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        raise ExportError("verification export failed")
    found = kinds_by_card(done.stdout, HOST_KEY)
    for card_id, expected in ((TRANSCRIPT_CARD, {"pvv"}), (SECCOS_CARD, {"pvv", "prw"})):
        if not expected <= {*found.get(card_id, ())}:
            raise ExportError(f"verification export: a value of {card_id} is missing")
    for card_id, kinds in found.items():
        print(f"  {card_id}   {', '.join(kinds)}")
    print("  JWEs to the authorisation host, opened with var/host/private.jwk; no value is shown")


def _show(who: str, steps: Iterator[Step]) -> None:
    print(f"  {who:<36}{'HTTP':<6}{'ms':>7}   what it shows")
    for step in steps:
        print(f"  {step.call:<36}{step.status:<6}{step.milliseconds:>7.1f}   {step.shows}")


def _say_what_next(page_url: str) -> None:
    print(
        f"""
See and set the PIN of {CARDHOLDER_CARD} in a browser, as its cardholder: on the hosted pages, and
on those of pincontrol in an Android webview, an iOS webview and an iframe:

  {page_url}

The browser must trust var/pki/ca.pem: import it as an authority, or accept the warning of both
addresses, this one and {cardholder_url()}, to which the page links.

Try next, in another terminal of this directory (. .venv/bin/activate):

  python -m cms d1 counter card-0001         how often the PIN of a card was changed
  python -m cms d1 set-pin card-0001         set it, as D1 does
  python -m cms d1 get-pin card-0001         read back what was set last, wherever
  python -m cms d1 set-pin card-0004 --seccos
                                             set it as "PIN 3DES Seccos"; that is never read back
  python -m cms audit list demobank01        what the issuer sees of it
  python -m cms cards state demobank01 card-0002 blocked
  python -m cms cards show demobank01 {PERSONALISED_CARD}
                                             "cards produced" was run for it, so that pincontrol
                                             only shows its PIN
  python -m hsm list                         the keys, all inside the token

var/sandbox.json tells a client of your own all it needs. var/service.log is the service's log.
"""
    )


def _two_pins() -> tuple[str, str]:
    """Draw two PINs that differ."""
    first = second = a_pin()
    while second == first:
        second = a_pin()
    return first, second
