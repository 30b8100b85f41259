"""Control ids of the pincontrol face, and the way of each to a PIN in a real browser.

The deployment is that of :mod:`benchmarks.hosted`. Ids are asked for with HTTP Basic: the password
is verified before the clock starts, and kept by each worker, as it is for a server that asks often.

Then Chromium plays the app. The clock starts just before the app's server asks for an id, and stops
when the page calls ``view_pin_success``: in a stand-in webview, whose page without an origin posts
the form, and in an iframe that an app's page on another site adds. Each visit has a page of its
own. The *first* of a browser context has nothing in its cache and no connection, the one *again*
has what the first left; the browser itself is warm.

The floor is the same way of the webview to a server whose own code costs nothing: an id, a page of
two elements and an image as large. Floor and service are visited in turns.

Every status and every callback is checked. At the end the answers must agree with the audit and
the consumed ids: that, and only that, makes the exit code 1.
"""

import base64
import json
import secrets
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from starlette.types import Receive, Scope, Send

from benchmarks import deployment, load, measure
from benchmarks.floors import PNG
from cms.domain.cards import Verb
from cms.domain.control import EndReason
from cms.persistence.statements.control_token import ISSUED
from cms.sandbox.partners.d1 import D1Config
from hsm.manifest.client_secrets import hash_secret

CARDS: Final = 1600
USER: Final = f"{deployment.ISSUER}-server"
FRAME_KEY: Final = f"{deployment.ISSUER}-frame"
PATH: Final = "/pincontrol/v2/plastic/%d"
QUERY: Final = "?auditUser=benchmark"
BODY: Final = {"scope": "VIEW_PIN"}
WARM_UP_SECONDS: Final = 1.0
ROUNDS: Final = 3
ROUND_SECONDS: Final = 1.5
HALF_SECONDS: Final = 3.0
START_SECONDS: Final = 0.3
VISITS_MAX: Final = 100
"""Of each way, first and again."""
VISITING_SECONDS_MAX: Final = 200.0
SHOWN_SECONDS_MAX: Final = 10
WAYS: Final = ("webview", "iframe", "floor")
VISITS: Final = ("first", "again")
SUCCESS: Final = "view_pin_success"
PARENT_HOST: Final = "app.test"
CHROMIUM_ARGUMENTS: Final = (
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    f"--host-resolver-rules=MAP {PARENT_HOST} 127.0.0.1",
)

#: The app's side of both ways. It notes the time itself: what hears it may be late.
HANDLERS: Final = """
(() => {
  const note = (event) => console.log(`${event} ${Date.now()}`);
  window.android_handler = {
    view_pin_success: () => note("view_pin_success"),
    view_pin_error: () => note("view_pin_error"),
  };
  addEventListener("message", ({ data }) => data?.event && note(data.event));
})();
"""
POST_FORM: Final = """
({ id, pinURL }) => {
  const form = document.createElement("form");
  const field = document.createElement("input");
  Object.assign(form, { method: "post", action: pinURL });
  Object.assign(field, { name: "controlId", value: id });
  form.append(field);
  document.body.append(form);
  form.submit();
}
"""
ADD_FRAME: Final = """
({ id, pinFrameURL, key }) => {
  const frame = document.createElement("iframe");
  const message = { operation: "view-pin", controlId: id };
  frame.src = `${pinFrameURL}?key=${key}`;
  frame.onload = () => frame.contentWindow.postMessage(message, new URL(pinFrameURL).origin);
  document.body.append(frame);
}
"""
FLOOR_ID: Final = '{"id": "1", "pinURL": "https://%s/pin"}'
FLOOR_PAGE: Final = (
    '<!DOCTYPE html><link rel="icon" href="data:,">'
    '<img src="/image" onload="android_handler.view_pin_success()">'
)
PARENT_PAGE: Final = '<!DOCTYPE html><link rel="icon" href="data:,"><body></body>'


def _work(pipe: "Connection[Any, Any]", d1: D1Config, password: str, port: int, part: int) -> None:
    """Send load; each process has its own cards, so that no two meet on one."""
    body = json.dumps(BODY)
    basic = base64.b64encode(f"{USER}:{password}".encode()).decode()
    headers = (f"Authorization: Basic {basic}", "Content-Type: application/json")
    plastics = range(part, CARDS, load.PROCESSES)
    posts = cycle(
        [load.request("POST", PATH % each + QUERY, *headers, body=body) for each in plastics]
    )

    def run(starts_at: float, seconds: float, rate: float | None) -> load.Outcome:
        return load.send(load.Plan(port, load.CONNECTIONS, starts_at, seconds, rate), posts, d1)

    load.answer_jobs(pipe, {"run": run})


@dataclass
class Figures:
    """What was measured."""

    rates: list[float] = field(default_factory=list)
    latencies_ms: list[float] = field(default_factory=list)
    half_latencies_ms: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    """Of all that asked for an id."""
    events: Counter[str] = field(default_factory=Counter)
    """What the service's pages called back."""
    id_ms: list[float] = field(default_factory=list)
    """Of each visit, until the app's server had the id."""
    shown_ms: dict[tuple[str, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    """By way, and first or again."""


def _issue(crew: load.Crew, figures: Figures) -> None:
    """Ask for ids, as many as are answered and then at half that rate."""

    def run(seconds: float, rate: float | None = None) -> load.Outcome:
        starts_at = time.monotonic() + START_SECONDS
        outcome = load.merge(crew.do("run", starts_at, seconds, rate))
        figures.statuses += outcome.statuses
        return outcome

    run(WARM_UP_SECONDS)
    for _ in range(ROUNDS):
        outcome = run(ROUND_SECONDS)
        figures.rates.append(outcome.per_second)
        figures.latencies_ms += outcome.latencies_ms
    rate = median(figures.rates) / 2 / load.PROCESSES
    figures.half_latencies_ms += run(HALF_SECONDS, rate).latencies_ms


@dataclass
class App:
    """An app's server, and the app on a cardholder's device."""

    browser: Browser
    server: httpx.Client
    service_url: str
    floor_url: str
    """Of the floor, as the service's."""
    parent_url: str
    """The app's page to which frames are added, on another site."""
    figures: Figures

    def visit_all(self) -> None:
        """See PINs in every way, in turns, until there are enough or it took too long."""
        # The first ones wait for the browser to start its own processes.
        self._visit_each()
        self.figures.id_ms.clear()
        self.figures.shown_ms.clear()
        ends_at = time.monotonic() + VISITING_SECONDS_MAX
        for _ in range(VISITS_MAX):
            if time.monotonic() > ends_at:
                break
            self._visit_each()

    def _visit_each(self) -> None:
        for way in WAYS:
            with self.browser.new_context() as context:
                context.set_default_timeout(SHOWN_SECONDS_MAX * 1000)
                context.add_init_script(HANDLERS)
                for visit in VISITS:
                    self.figures.shown_ms[way, visit].append(self._visit(context, way))

    def _visit(self, context: BrowserContext, way: str) -> float:
        page = context.new_page()
        if way == "iframe":
            page.goto(self.parent_url)
        with page.expect_console_message(lambda message: "view_pin_" in message.text) as heard:
            started_ms = time.time() * 1000
            page.evaluate(ADD_FRAME if way == "iframe" else POST_FORM, self._ask(way))
        event, noted_ms = heard.value.text.split()
        page.close()
        if way != "floor":
            self.figures.events[event] += 1
        return float(noted_ms) - started_ms

    def _ask(self, way: str) -> dict[str, str]:
        """Ask for a control id; return what the app's server hands to the app."""
        started = time.monotonic()
        url = self.floor_url if way == "floor" else self.service_url
        answer = self.server.post(url + PATH % 0 + QUERY, json=BODY)
        if way != "floor":
            self.figures.id_ms.append((time.monotonic() - started) * 1000)
            self.figures.statuses[answer.status_code] += 1
        answer.raise_for_status()
        return {**answer.json(), "key": FRAME_KEY}


async def floor(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with an id, a page or an image, none of which cost anything; and as the app's page."""
    while (await receive()).get("more_body"):
        pass
    host = dict(scope["headers"])[b"host"].decode()
    status, media_type, body = {
        PATH % 0: (201, "application/json", FLOOR_ID % host),
        "/pin": (200, "text/html", FLOOR_PAGE),
        "/image": (200, "image/png", PNG),
        "/": (200, "text/html", PARENT_PAGE),
    }[scope["path"]]
    content = body if isinstance(body, bytes) else body.encode()
    headers = [
        (b"content-type", media_type.encode()),
        (b"content-length", str(len(content)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def main() -> int:
    """Measure and print."""
    chromium = shutil.which("chromium")
    if chromium is None:
        print("pincontrol: Chromium is missing; make packages", file=sys.stderr)
        return 1
    workers = deployment.Workers.asked_for()
    measure.heading(f"Pincontrol face · {measure.machine()} · {workers}")
    figures = Figures()
    with deployment.directory_and_hsm_token() as (directory, hsm_token):
        ports = deployment.free_ports(4)
        password = secrets.token_urlsafe()
        parent = f"https://{PARENT_HOST}:{ports[3]}"
        server_client = _server(password, parent)
        issuer = deployment.make_issuer(
            directory, hsm_token, f"https://localhost:{ports[0]}", CARDS, [server_client]
        )
        pins = deployment.set_pins(hsm_token, issuer)
        key, certificate = (directory / "pki" / f"server.{kind}" for kind in ("key", "pem"))
        bare = ("-m", "uvicorn", "benchmarks.pincontrol:floor", "--port", str(ports[3]))
        tls = ("--ssl-keyfile", str(key), "--ssl-certfile", str(certificate), "--lifespan", "off")
        with deployment.database(directory, issuer, pins) as (url, _):
            settings = deployment.cardholder_settings(directory, ports[2])
            with (
                deployment.serving(directory, ports, url, workers, settings) as service,
                deployment.running((*bare, *tls, "--no-access-log"), directory / "floor.log"),
            ):
                crew = load.Crew(load.PROCESSES, _work, issuer.d1, password, ports[2])
                _issue(crew, figures)
                crew.dismiss()
                with (
                    sync_playwright() as playwright,
                    playwright.chromium.launch(
                        executable_path=chromium,
                        args=(*CHROMIUM_ARGUMENTS, _trusting(certificate)),
                    ) as browser,
                    httpx.Client(
                        verify=load.client_context(issuer.d1), auth=(USER, password)
                    ) as server,
                ):
                    App(
                        browser,
                        server,
                        f"https://localhost:{ports[2]}",
                        f"https://localhost:{ports[3]}",
                        f"{parent}/",
                        figures,
                    ).visit_all()
                memory = service.resident_mib()
            found = deployment.stored(url)
    _print(figures)
    measure.print_memory(memory)
    return _verdict(figures, found)


def _trusting(certificate: Path) -> str:
    """Make Chromium's argument for this server; what comes despite an error it does not cache."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    digest = base64.b64encode(sha256(der).digest()).decode()
    return f"--ignore-certificate-errors-spki-list={digest}"


def _server(password: str, parent: str) -> dict[str, object]:
    """Write the issuer's own server as a manifest has it."""
    return {
        "kind": "server",
        "client_id": USER,
        "secrets": [{"sha256": hash_secret(password)}],
        "frame_key": FRAME_KEY,
        "frame_origins": [parent],
    }


def _print(figures: Figures) -> None:
    rounds = " ".join(f"{rate:.0f}" for rate in figures.rates)
    print(f"{'':<14}{'median/s':>10}   {'rounds':<18}{'p50 ms':>8}{'p99 ms':>8}", end="")
    print(f"{'p50 at half':>14}{'p99 at half':>13}")
    print(f"{'id issue':<14}{median(figures.rates):>10.0f}   {rounds:<18}", end="")
    print(measure.p50_and_p99(figures.latencies_ms, 8, 8), end="")
    print(measure.p50_and_p99(figures.half_latencies_ms, 14, 13), end="")
    measure.heading(f"\nFrom asking for an id to {SUCCESS} in Chromium, milliseconds")
    print(f"{'':<18}{'visits':>8}{'p50':>8}{'p99':>8}{'p50/floor':>12}")
    for visit in VISITS:
        bare = measure.percentile(figures.shown_ms["floor", visit], 0.5)
        for way in WAYS:
            taken = figures.shown_ms[way, visit]
            p50, p99 = measure.percentile(taken, 0.5), measure.percentile(taken, 0.99)
            line = f"{f'{way}, {visit}':<18}{len(taken):>8}{p50:>8.0f}{p99:>8.0f}"
            print(line + (f"{p50 / bare:>12.1f}" if way != "floor" else ""))
    print(f"\nof which until the app's server has the id, p50: {median(figures.id_ms):.0f}")


def _verdict(figures: Figures, found: Mapping[str, int]) -> int:
    """Say whether the service did what it was asked to: not how fast."""
    wrong = [
        f"{count} times {status}" for status, count in figures.statuses.items() if status != 201
    ]
    wrong += [
        f"{count} times {event}" for event, count in figures.events.items() if event != SUCCESS
    ]
    for what in wrong:
        print(f"wrong answers: {what}", file=sys.stderr)
    agree = {
        "ids": (figures.statuses[201], found["tokens"], found[f"audit {ISSUED}"]),
        "images": (
            *(figures.events[SUCCESS], found[f"tokens {EndReason.SHOWN}"]),
            found[f"audit {Verb.GET_PIN}"],
        ),
    }
    return measure.report_agreement(agree) or int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
