"""The demo: a whole deployment on this machine, under ``var/``, and its partners' conversations.

The first run sets everything up (:mod:`cms.sandbox.set_up`), later runs start what is there.
Nothing listens beyond this machine.
"""

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from cms.sandbox import conversations, files, manifests, sandbox_file, service, settings
from cms.sandbox.cards import CARDHOLDER, CARDHOLDER_CARD, PERSONALISED_CARD
from cms.sandbox.clients import PageClients
from cms.sandbox.machine import pki
from cms.sandbox.machine.ports import free_port
from cms.sandbox.machine.postgres import Postgres, PostgresError, exit_on_sigterm
from cms.sandbox.machine.softhsm import SoftHsm, SoftHsmError
from cms.sandbox.operator_commands import CommandError
from cms.sandbox.partners import hosted_app, pincontrol_server
from cms.sandbox.partners.authorisation_host import ExportError
from cms.sandbox.partners.d1 import D1Error
from cms.sandbox.partners.host_page import HostPage
from cms.sandbox.partners.hosted_app import HostedError
from cms.sandbox.partners.pincontrol_server import PinControlError
from cms.sandbox.partners.transcript import TranscriptError
from cms.sandbox.set_up import add_issuers, is_set_up, prepare

PAGE_PORT: Final = 8445
ERRORS: Final = (
    *(SoftHsmError, PostgresError, CommandError),
    *(D1Error, HostedError, PinControlError, TranscriptError, ExportError),
)


def run(*, once: bool) -> int:
    """Run the demo and return its exit code; with *once*, end after the conversations."""
    exit_on_sigterm()
    os.umask(0o077)
    files.VAR.mkdir(exist_ok=True)
    files.VAR.chmod(0o700)
    try:
        return _run(once=once)
    except ERRORS as error:
        print(f"the demo ended: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 0


def _run(*, once: bool) -> int:
    started = time.monotonic()
    softhsm = SoftHsm(files.SOFTHSM)
    is_new = softhsm.ensure()
    pki.ensure(files.PKI)
    # Not under var/: the path of a socket has at most 107 bytes (unix(7)).
    with Postgres(files.POSTGRES) as postgres, TemporaryDirectory(prefix="pins-") as sockets:
        settings.make(postgres.url(), Path(sockets))
        is_first = is_new or not is_set_up(postgres)
        if is_first:
            if not is_new:
                # Of a set-up that was interrupted, or is older; imported once more, a key would be
                # the second generation, and the manifest names the first.
                softhsm.remove()
                softhsm.ensure()
            prepare(postgres)
        with service.running() as programs:
            if is_first:
                add_issuers()
            clients = PageClients(free_port(PAGE_PORT))
            clients.register()
            files.ACCESS_TOKEN.parent.mkdir(mode=0o700, exist_ok=True)
            manifests.identity().write_access_token(files.ACCESS_TOKEN, CARDHOLDER)
            sandbox_file.write(clients)
            with _host_page(clients.page_port) as page:
                print(
                    f"\nServing D1 on {settings.d1_url()} and cardholders on "
                    f"{settings.cardholder_url()} after {time.monotonic() - started:.1f} s.\n"
                )
                conversations.hold()
                _say_what_next(page.url)
                if once:
                    print("This run ends here. Without --once the demo keeps serving.\n")
                    return 0
                ended = service.wait(programs)
                log = files.relative(ended.log)
                print(f"The {ended.name} ended; its log is {log}", file=sys.stderr)
                return 1


def _host_page(port: int) -> HostPage:
    app, server = hosted_app.load(sandbox_file.FILE), pincontrol_server.load(sandbox_file.FILE)
    return HostPage(app, server, files.PKI / "server.pem", files.PKI / "server.key", port)


def _say_what_next(page_url: str) -> None:
    print(
        f"""
See and set the PIN of {CARDHOLDER_CARD} in a browser, as its cardholder: on the hosted pages, and
on those of pincontrol in an Android webview, an iOS webview and an iframe:

  {page_url}

The browser must trust var/pki/ca.pem: import it as an authority, or accept the warning of both
addresses, this one and {settings.cardholder_url()}, to which the page links.

Try next, in another terminal of this directory (. .venv/bin/activate):

  python -m cms.sandbox d1 counter card-0001   how often the PIN of a card was changed
  python -m cms.sandbox d1 set-pin card-0001   set it, as D1 does
  python -m cms.sandbox d1 get-pin card-0001   read back what was set last, wherever
  python -m cms.sandbox d1 set-pin card-0004 --seccos
                                               set it as "PIN 3DES Seccos"; that is never read back

and what the issuer's operator types, here with the demo's settings:

  python -m cms.sandbox cms audit list demobank01
                                               what happened
  python -m cms.sandbox cms manifest list      what the issuers decided, and which host has it
  python -m cms.sandbox cms cards state demobank01 card-0002 blocked
  python -m cms.sandbox cms cards show demobank01 {PERSONALISED_CARD}
                                               it is personalised: pincontrol only shows its PIN
  python -m cms.sandbox hsm list               the keys, all inside the HSM token

var/sandbox.json tells a client of your own all it needs. var/service.log is the log of the web,
var/vault.log that of the vault.
"""
    )
