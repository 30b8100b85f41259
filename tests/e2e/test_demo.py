"""The demo as a newcomer runs it, in a copy of the tree whose path holds a space."""

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import psec
import pyemv
import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from cryptography.hazmat.primitives.cmac import CMAC
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK
from playwright.sync_api import Browser, FrameLocator, Page, sync_playwright
from psycopg.conninfo import conninfo_to_dict

from cms.sandbox import HANG_SECONDS
from tests.browser.chromium import launch, new_context
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.deployment import (
    ROOT,
    lengthen_control_tokens,
    patiently,
    stop,
    wait_for,
    without_settings,
)
from tests.processes import family, runs

PARTS = ("cms", "crypto", "hsm", "migrations")
ROW = re.compile(r"  (\S.{35})(\d{3}) +\d+\.\d   (.+)")
TRANSCRIPT = [
    ("POST oauth2/token", "200", "an access token for the issuer"),
    ("POST activate", "204", "the card is active"),
    ("GET changeCounter", "200", "0"),
    ("PUT pin", "204", "a PIN is set"),
    ("GET changeCounter", "200", "1"),
    ("GET pin", "200", "decrypts to the PIN just set"),
    ("PUT pin, same JWE", "204", "accepted again"),
    ("GET changeCounter", "200", "1"),
    ("PUT pin", "204", "another PIN is set"),
    ("GET pin", "200", "decrypts to the PIN just set"),
    ("GET changeCounter", "200", "2"),
    ("PUT pin, weak", "403", "refused, PIN_CHANGE_FORBIDDEN"),
    ("GET changeCounter", "200", "0"),
    ("PUT pin, SECCOS", "204", "a PIN is set"),
    ("GET changeCounter", "200", "1"),
    ("PUT pin, SECCOS, stale counter", "400", "refused, FIELD_INVALID_VALUE"),
    ("PUT pin, SECCOS, same JWE", "204", "accepted again"),
    ("GET changeCounter", "200", "1"),
    ("GET pin", "403", "refused, PIN_NOT_AVAILABLE"),
]
HOSTED_TRANSCRIPT = [
    ("POST pin/token", "200", "a control token, for an image"),
    ("GET details-image", "200", "a PNG, X-Pin-Result: shown"),
    ("GET details-image, again", "410", "a PNG, X-Pin-Result: ended"),
    ("POST set-pin/token", "200", "a control token, for a page"),
    ("GET pin-direct/set", "200", "the page, not yet open"),
    ("POST session", "200", "its script has the vault's key"),
    ("POST submit", "204", "a PIN is set"),
    ("GET pin, by D1", "200", "decrypts to the PIN set on the page"),
]
PINCONTROL_TRANSCRIPT = [
    ("POST plastic, SET_PIN, personalised", "403", "refused, DYNAMIC_VALIDATION_ERROR"),
    ("POST plastic, SET_PIN", "201", "a control id, for 30 seconds"),
    ("POST pinURL, a form", "200", "the page, in a webview"),
    ("POST session", "200", "its script has the vault's key"),
    ("POST submit", "204", "a PIN is set"),
    ("POST plastic, VIEW_PIN", "201", "a control id, for 30 seconds"),
    ("POST view", "200", "a PNG, X-Pin-Result: shown"),
    ("POST digits", "200", "decrypts to the PIN just set"),
    ("POST view, same id", "410", "refused, DYNAMIC_VALIDATION_ERROR"),
    ("GET pin, by D1", "200", "decrypts to the same PIN"),
    ("POST pin/token, by the app", "200", "a control token, for an image"),
    ("GET details-image, by the app", "200", "a PNG, X-Pin-Result: shown"),
]
CONVERSATIONS = TRANSCRIPT + HOSTED_TRANSCRIPT + PINCONTROL_TRANSCRIPT
SHARED_ROLES = (
    *("block-protection", "seccos-pin", "seccos-prw", "seccos-mac-master"),
    *("pvk", "pvk-3624"),
)
#: The end of a page as another page would tell of it; it resolves once it was heard.
FORGED = """new Promise((resolve) => {
  addEventListener("message", resolve, { once: true });
  postMessage(%s, location.origin);
}).then(() => {})"""
FORGED_END = FORGED % '{ type: "abort" }'
FORGED_SUCCESS = FORGED % '{ event: "set_pin_success" }'
#: In the kernel's table of sockets.
LISTENING = "0A"
JWE_ALGORITHMS = ["ECDH-ES", "A256GCM"]


def newcomers() -> dict[str, str]:
    """The environment of somebody in an office, with little set, behind a proxy of no use here."""
    left_out = {"HOME", "NO_PROXY", "no_proxy"}
    given = {name: value for name, value in without_settings().items() if name not in left_out}
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
    return {**given, "LC_ALL": "C", **proxies}


class Tree:
    """A copy of the repository, and what a person types in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.var = root / "var"
        for part in PARTS:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / part, root / part, ignore=ignored)
        shutil.copy(ROOT / "pyproject.toml", root)
        self.output = root / "printed"

    def run(self, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.root,
            env=newcomers(),
            input=typed,
            capture_output=True,
            text=True,
            timeout=HANG_SECONDS,
            check=False,
        )

    def printed(self, *words: str, typed: str = "") -> str:
        done = self.run(*words, typed=typed)
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def demo(self, until: str = "Try next") -> Iterator[subprocess.Popen[bytes]]:
        """Start the demo and wait for it to print *until*; what is left of it ends afterwards."""
        with self.output.open("wb") as printed:
            process = subprocess.Popen(
                [sys.executable, "-u", "-m", "cms.sandbox", "demo"],
                cwd=self.root,
                env=newcomers(),
                stdout=printed,
                stderr=printed,
            )
        try:
            wait_for(lambda: until in self.printed_by_demo() or process.poll() is not None)
            assert process.poll() is None, self.printed_by_demo()
            yield process
        finally:
            stop(process, self.root)
            for directory in self.short_lived():  # as a demo that was killed could not
                shutil.rmtree(directory, ignore_errors=True)

    def printed_by_demo(self) -> str:
        """What the demo that runs, or ran last, printed so far."""
        return self.output.read_text()

    def short_lived(self) -> list[Path]:
        """The directories of sockets that a demo makes elsewhere, for the sake of their names."""
        host = conninfo_to_dict((self.var / "database-url").read_text())["host"]
        written = shlex.split((self.var / "web.env").read_text())
        settings = dict(each.split("=", 1) for each in written)
        return [Path(str(host)), Path(settings["CMS_VAULT_SOCKET_DIRECTORY"])]

    def sandbox(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.var / "sandbox.json").read_text())
        return content


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    return Tree(tmp_path_factory.mktemp("demo") / "a tree")


@pytest.fixture(scope="module")
def first(tree: Tree) -> str:
    """What the very first run printed."""
    return tree.printed("cms.sandbox", "demo", "--once")


@pytest.fixture(scope="module")
def running(tree: Tree, first: str) -> Iterator[Tree]:
    """The demo, started again and left serving."""
    with tree.demo():
        lengthen_control_tokens((tree.var / "database-url").read_text())
        yield tree


def transcript(printed: str) -> list[tuple[str, str, str]]:
    rows = filter(None, map(ROW.fullmatch, printed.splitlines()))
    return [(row[1].strip(), row[2], row[3]) for row in rows]


def host_page(tree: Tree) -> str:
    """The link to the app's page that the demo printed."""
    (link,) = re.findall(r"^  (https://\S+/)$", tree.printed_by_demo(), re.MULTILINE)
    return str(link)


def thumbprints(tree: Tree) -> str:
    return tree.printed("cms.sandbox", "hsm", "list")


def test_the_first_run_sets_everything_up_and_shows_the_conversations(first: str) -> None:
    assert transcript(first) == CONVERSATIONS


def test_the_readme_shows_the_conversations_as_they_are() -> None:
    assert transcript((ROOT / "README.md").read_text()) == CONVERSATIONS


def test_the_set_up_is_shown_as_the_commands_of_an_operator(first: str) -> None:
    for command in (
        "hsm ceremony hsm/roles.toml",
        "hsm import-components block-protection demobank01",
        "hsm import-block seccos-pin demobank01 var/config/demobank01-seccos-pin.tr31",
        "hsm manifest key var/operators/ann.pem --name Ann --no-passphrase",
        "hsm manifest sign var/config/minimum-versions.json --key var/operators/bob.pem",
        "hsm manifest begin var/config/minimum-versions.json",
        "cms issuers add demobank01",
        "hsm manifest new demobank02 --sandbox",
        "hsm manifest change var/config/demobank02.json 'name=\"Second Demo Bank\"' 'recipient={",
        "cms clients add var/config/demobank02.json demobank02 --certificate ",
        "hsm manifest sign var/config/demobank02.json --key var/operators/ann.pem",
        "hsm manifest sign var/config/demobank02.json --key var/operators/bob.pem",
        "cms manifest load var/config/demobank02.json --host demo",
        "cms cards feed-key var/feeds/demobank02.pem --name cards --no-passphrase",
        "cms cards make-feed demobank02 var/feeds/demobank02.jsonl --key var/feeds/demobank02.pem",
        "cms cards import demobank02 var/config/demobank02-cards.feed",
        "cms cards personalised demobank01 card-0002",
        "cms clients add-app var/config/demobank01.json demobank01-app-",
        "cms clients add-backend var/config/demobank01.json demobank01-server-",
    ):
        assert f"$ python -m {command}" in first


def test_no_key_is_shown(first: str) -> None:
    assert re.search(r"KCV [0-9A-F]{6}\n", first)
    # Of what is signed the digest is shown; a ceremony and a line of the log have names.
    named = r"SHA-256 +[0-9a-f]{64}|key ceremony +[0-9a-f]{32}|in the log as \d+\.[0-9a-f]{32}"
    assert not re.search("[0-9A-Fa-f]{32}", re.sub(named, "", first))
    assert "PRIVATE" not in first


def test_the_authorisation_host_gets_the_verification_values(first: str) -> None:
    shown = first.partition("$ python -m cms verification export demobank01\n")[2].splitlines()
    assert shown[:4] == [
        "  card-0001   offset-3624, pvv",
        "  card-0002   offset-3624, pvv",
        "  card-0003   offset-3624, pvv",
        "  card-0004   offset-3624, prw, pvv, script",
    ]


def test_nobody_else_can_read_anything_it_made(tree: Tree, first: str) -> None:
    wrong = {}
    for path in (tree.var, *tree.var.rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        if (mode := stat.S_IMODE(path.lstat().st_mode)) != expected:
            wrong[str(path)] = oct(mode)
    assert wrong == {}


def test_the_sandbox_file_has_the_published_members_and_no_other(tree: Tree, first: str) -> None:
    sandbox = tree.sandbox()
    assert set(sandbox) == {*("baseUrl", "ca", "d1", "hosted", "issuers", "pincontrol", "seccos")}
    assert set(sandbox["d1"]) == {
        "issuerId",
        "clientCert",
        "clientKey",
        "clientId",
        "clientSecretFile",
        "tokenPath",
        "issuerJwk",
        "d1PrivateJwkFile",
        "type",
        "plaintextMember",
    }
    assert set(sandbox["d1"]["issuerJwk"]) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert len({issuer["issuerId"] for issuer in sandbox["issuers"]}) >= 2
    for issuer in sandbox["issuers"]:
        assert set(issuer) == {"issuerId", "cards", "d1"}
        assert set(issuer["d1"]) == set(sandbox["d1"])
        assert len(issuer["issuerId"]) == 10
        assert len(issuer["cards"]) >= 2
        assert all(set(card) == {"cardId", "pan"} for card in issuer["cards"])
    assert set(sandbox["hosted"]) == {
        "baseUrl",
        "clientKey",
        "accessTokenFile",
        "issuerId",
        "cardId",
    }
    assert set(sandbox["pincontrol"]) == {
        "baseUrl",
        "user",
        "passwordFile",
        "frameKey",
        "auditUser",
        "issuerId",
        "producedPlasticId",
        "unproducedPlasticId",
    }
    assert set(sandbox["seccos"]) == {
        "issuerId",
        "cardId",
        "pan",
        "psn",
        "expiry",
        "profile",
        "keysFile",
        "type",
    }


def test_every_file_that_the_sandbox_file_names_is_there(tree: Tree, first: str) -> None:
    sandbox = tree.sandbox()
    names = ("clientCert", "clientKey", "clientSecretFile", "d1PrivateJwkFile")
    files = [sandbox["ca"], sandbox["hosted"]["accessTokenFile"], sandbox["seccos"]["keysFile"]]
    files.append(sandbox["pincontrol"]["passwordFile"])
    for name in (*files, *(sandbox["d1"][name] for name in names)):
        assert not Path(name).is_absolute()
        assert (tree.root / name).read_bytes()


def test_nothing_is_left_running_after_once(tree: Tree, first: str) -> None:
    assert not processes_in(tree.root)


def test_a_second_run_keeps_the_keys(running: Tree, first: str) -> None:
    printed = {" ".join(line.split()) for line in first.splitlines()}
    listed = [" ".join(line.split()) for line in thumbprints(running).splitlines()]
    shared = [line for line in listed if "@demobank01" in line]
    assert [line for line in listed if line not in printed] == []
    assert {line.partition("@")[0] for line in shared} == {*SHARED_ROLES}
    assert len(shared) == len(SHARED_ROLES)


def test_a_second_run_shows_app_and_server_once_more(running: Tree) -> None:
    printed = running.printed_by_demo()
    again = HOSTED_TRANSCRIPT + PINCONTROL_TRANSCRIPT
    assert transcript(printed)[-len(again) :] == again
    assert "$ python -m cms clients" not in printed
    assert "$ python -m hsm manifest" not in printed


def test_everything_listens_on_this_machine_only(running: Tree) -> None:
    listening = [pair for pid in processes_in(running.root) for pair in listeners(pid)]
    hosted = running.sandbox()["hosted"]
    expected = {httpx.URL(hosted["baseUrl"]).port, httpx.URL(host_page(running)).port}
    assert expected < {port for _, port in listening}
    assert {address for address, _ in listening} == {"127.0.0.1"}


def test_d1_and_the_operator_play_against_the_demo(running: Tree) -> None:
    before = int(running.printed("cms.sandbox", "d1", "counter", "card-0001"))
    running.printed("cms.sandbox", "d1", "activate", "card-0001")
    running.printed("cms.sandbox", "d1", "set-pin", "card-0001", typed="4071\n")
    assert running.printed("cms.sandbox", "d1", "get-pin", "card-0001") == "4071\n"
    assert int(running.printed("cms.sandbox", "d1", "counter", "card-0001")) == before + 1
    assert "event=pin.set" in running.printed("cms.sandbox", "cms", "audit", "list", "demobank01")


def test_two_operators_change_a_policy_while_the_demo_serves(running: Tree) -> None:
    issuer, card = "demobank02", "card-0001"
    current, draft = (running.var / name for name in ("current.json", "next.json"))
    cms, hsm = ("cms.sandbox", "cms", "manifest"), ("cms.sandbox", "hsm", "manifest")
    set_pin = ("cms.sandbox", "d1", "set-pin", card, "--issuer", issuer)
    running.printed(*set_pin, typed="4071852\n")
    current.write_text(running.printed(*cms, "show", issuer, "--signed"))
    changed = running.printed(
        *hsm, "change", str(current), "policy.length_max=6", "--out", str(draft)
    )
    assert "policy.length_max: 8 -> 6" in changed
    sign, load = (*hsm, "sign", str(draft), "--key"), (*cms, "load", str(draft), "--host", "demo")
    running.printed(*sign, "var/operators/ann.pem")
    assert "too few signatures" in running.run(*load).stderr
    running.printed(*sign, "var/operators/bob.pem")
    running.printed(*load)
    wait_for(lambda: running.run(*set_pin, typed="4071852\n").returncode != 0)
    running.printed(*set_pin, typed="407185\n")


def type_page(tree: Tree, heading: str) -> str:
    """Type the commands that docs/demo.md has under a heading, but those that stand for several."""
    page = (ROOT / "docs" / "demo.md").read_text()
    _, _, section = page.partition(f"\n## {heading}\n")
    blocks = re.findall(r"^```\n(.*?)^```", section.partition("\n## ")[0], re.DOTALL | re.MULTILINE)
    commands = [block for block in blocks if "…" not in block]
    done = subprocess.run(
        ["bash", "-e", "-c", "".join(commands).replace("python -m", f"{sys.executable} -m")],
        cwd=tree.root,
        env=without_settings(),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_on_the_demo_says_how_two_operators_change_a_policy(running: Tree) -> None:
    assert "policy.length_max: 8 -> 6" in type_page(running, "Two operators")
    set_pin = ("cms.sandbox", "d1", "set-pin", "card-0003")
    wait_for(lambda: running.run(*set_pin, typed="4071852\n").returncode != 0)
    running.printed(*set_pin, typed="407185\n")


def test_the_page_on_the_demo_says_how_another_cardholder_comes_in(running: Tree) -> None:
    line = {"cardId": "card-0099", "pan": "4000056655665556", "expiry": "1230"}
    (running.root / "line.jsonl").write_text(json.dumps({**line, "cardholder": "somebody"}))
    type_page(running, "Commands")
    shown = running.printed("cms.sandbox", "cms", "cards", "show", "demobank01", "card-0099")
    assert "somebody" in shown


def test_a_pin_is_set_by_hand_as_seccos(running: Tree) -> None:
    client = ForeignClient(running.root)
    path = client.path("card-0004")
    with client.http:
        client.authorise()
        before = client.counter(path)
        running.printed("cms.sandbox", "d1", "set-pin", "card-0004", "--seccos", typed="4071\n")
        assert client.counter(path) == before + 1
    assert running.run("cms.sandbox", "d1", "get-pin", "card-0004").stderr.startswith("d1: 403 ")


def test_a_second_demo_beside_the_first_says_why_not(running: Tree) -> None:
    refused = running.run("cms.sandbox", "demo", "--once")
    assert refused.returncode == 1
    assert refused.stderr == "the demo ended: another server runs on this data directory\n"


class ForeignClient:
    """D1 by somebody who has only ``sandbox.json`` and what can be installed from PyPI."""

    def __init__(self, root: Path) -> None:
        self.sandbox = json.loads((root / "var" / "sandbox.json").read_text())
        self.d1 = self.sandbox["d1"]
        self.root = root
        tls = ssl.create_default_context(cafile=root / self.sandbox["ca"])
        tls.load_cert_chain(root / self.d1["clientCert"], root / self.d1["clientKey"])
        self.http = httpx.Client(verify=tls, base_url=self.sandbox["baseUrl"], timeout=HANG_SECONDS)

    def authorise(self) -> None:
        secret = (self.root / self.d1["clientSecretFile"]).read_text().strip()
        answer = self.http.post(
            self.d1["tokenPath"],
            data={"grant_type": "client_credentials"},
            auth=(self.d1["clientId"], secret),
        )
        assert answer.status_code == 200
        self.http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def path(self, card_id: str) -> str:
        issuer_id = self.sandbox["issuers"][0]["issuerId"]
        return f"/cms/api/v1/issuers/{issuer_id}/cards/{card_id}/pin"

    def put(self, path: str, pin: str, pan: str) -> httpx.Response:
        field = f"0{len(pin)}{pin}".ljust(16, "F")
        block = int(field, 16) ^ int(pan[-13:-1], 16)
        return self.send(path, "ISO0", {"pinBlock": f"{block:016X}"})

    def put_seccos(self, path: str, pin: str, counter: int) -> httpx.Response:
        seccos = self.sandbox["seccos"]
        hexadecimal = json.loads((self.root / seccos["keysFile"]).read_text())
        keys = {name: bytes.fromhex(key) for name, key in hexadecimal.items()}
        names = {name: given[0] for name, given in seccos["profile"]["payload"].items() if given}
        field = f"{len(pin):X}{pin}".ljust(15, "F")
        session = {
            name: pyemv.kd.derive_common_sk(
                pyemv.kd.derive_icc_mk_a(keys[name], seccos["pan"], f"{seccos['psn']:02d}"),
                counter.to_bytes(2) + bytes(6),
            )
            for name in ("pinBlock", "mac")
        }
        tdes = TripleDES(session["pinBlock"] + session["pinBlock"][:8])
        block = Cipher(tdes, ECB()).encryptor().update(bytes.fromhex("2" + field)).hex()
        pan, random = seccos["pan"].encode().hex(), os.urandom(4).hex()
        cdp, cdt = f"{seccos['psn']:04X}", f"{seccos['expiry']}{counter:04X}"
        parts = "".join(f"{len(part) // 2:04X}{part}" for part in (pan, cdp, cdt))
        prw = CMAC(AES(keys["prw"]))
        prw.update(bytes.fromhex(b"PRW1".hex() + parts + "0" + field + random))
        message = bytes.fromhex(f"8424000210{counter:04X}{block}")
        left, right = session["mac"][:8], session["mac"][8:]
        mac = psec.mac.generate_retail_mac(left * 3, right * 3, message, 2, 8)
        payload = {
            names["pin_block"]: block,
            names["prw"]: prw.finalize().hex(),
            names["prw_random"]: random,
            names["mac"]: mac.hex(),
            names["counter"]: counter,
        }
        return self.send(path, seccos["type"], payload)

    def send(self, path: str, type_: str, payload: dict[str, object]) -> httpx.Response:
        header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": self.d1["issuerJwk"]["kid"]}
        jwe = JWE(json.dumps(payload), json.dumps(header), algs=JWE_ALGORITHMS)
        jwe.add_recipient(JWK(**self.d1["issuerJwk"]))
        body = {"type": type_, "encryptedPinBlock": jwe.serialize(compact=True)}
        return self.http.put(path, json=body)

    def counter(self, path: str) -> int:
        counter: int = self.http.get(f"{path}/changeCounter").json()["changeCounter"]
        return counter

    def get(self, path: str, pan: str) -> str:
        jwe = JWE(algs=JWE_ALGORITHMS)
        jwe.deserialize(self.http.get(path).json()["encryptedPinBlock"])
        jwe.decrypt(JWK.from_json((self.root / self.d1["d1PrivateJwkFile"]).read_text()))
        block = int(json.loads(jwe.payload)["pinBlock"], 16) ^ int(pan[-13:-1], 16)
        clear = f"{block:016X}"
        return clear[2 : 2 + int(clear[1])]


def pin_of_cardholder(tree: Tree) -> str:
    """What D1 reads of the card whose cardholder is logged in."""
    client = ForeignClient(tree.root)
    card_id = client.sandbox["hosted"]["cardId"]
    pans = {card["cardId"]: card["pan"] for card in client.sandbox["issuers"][0]["cards"]}
    with client.http:
        client.authorise()
        return client.get(client.path(card_id), pans[card_id])


def test_a_foreign_client_needs_only_the_sandbox_file(running: Tree) -> None:
    client = ForeignClient(running.root)
    own, other = client.sandbox["issuers"][:2]
    with client.http:
        client.authorise()
        for card in own["cards"]:
            path = f"/cms/api/v1/issuers/{own['issuerId']}/cards/{card['cardId']}/pin"
            assert client.put(path, "28604", card["pan"]).status_code == 204
            assert client.get(path, card["pan"]) == "28604"
            assert client.counter(path) >= 1
        foreign = f"/cms/api/v1/issuers/{other['issuerId']}/cards/{other['cards'][0]['cardId']}/pin"
        assert client.http.get(foreign).status_code == 404


def test_d1_calls_both_issuers_by_hand_and_each_has_a_set_of_its_own(running: Tree) -> None:
    issuers = running.sandbox()["issuers"]
    for issuer in issuers:
        card, name = issuer["cards"][0]["cardId"], issuer["issuerId"]
        assert (
            running.printed("cms.sandbox", "d1", "counter", card, "--issuer", name)
            .strip()
            .isdigit()
        )
        assert issuer["d1"]["clientId"].startswith(name)
    for member in ("clientCert", "clientKey", "clientId", "clientSecretFile", "issuerId"):
        assert len({issuer["d1"][member] for issuer in issuers}) == len(issuers)
    assert running.sandbox()["d1"] == issuers[0]["d1"]


def test_any_cardholder_gets_an_access_token(running: Tree) -> None:
    app = ForeignApp(running.root)
    printed = running.printed("cms.sandbox", "token", "--subject", "cardholder-0002").strip()
    app.headers["Authorization"] = f"Bearer {printed}"
    with app.http:
        assert app.ask("/v1/card/pin/token").status_code == 200


@takes_tdes_the_old_way
def test_a_foreign_client_sets_a_pin_as_seccos(running: Tree) -> None:
    client = ForeignClient(running.root)
    seccos = client.sandbox["seccos"]
    path = f"/cms/api/v1/issuers/{seccos['issuerId']}/cards/{seccos['cardId']}/pin"
    with client.http:
        client.authorise()
        before = client.counter(path)
        assert client.put_seccos(path, "28604", before).status_code == 204
        assert client.counter(path) == before + 1
        assert client.put_seccos(path, "28604", before).status_code == 400
        assert client.put_seccos(path, "28604", before + 1).status_code == 204
        assert client.http.get(path).status_code == 403


def sealed(control_token: str, opened: dict[str, Any], pin: str) -> dict[str, str]:
    """What the script of a page submits."""
    key, block = opened["key"], f"1{len(pin)}{pin}{os.urandom(8).hex().upper()}"[:16]
    named = {"grantId": opened["grantId"], "controlToken": control_token}
    plaintext = json.dumps({**named, "block": block})
    header = {"alg": "ECDH-ES", "enc": "A256GCM", "kid": key["kid"]}
    jwe = JWE(plaintext, json.dumps(header), algs=JWE_ALGORITHMS)
    jwe.add_recipient(JWK(**{name: key[name] for name in ("kty", "crv", "x", "y")}))
    return {
        "session": opened["session"],
        "controlToken": control_token,
        "jwe": jwe.serialize(compact=True),
    }


class ForeignApp:
    """An app by somebody who has only ``sandbox.json`` and what can be installed from PyPI."""

    def __init__(self, root: Path) -> None:
        sandbox = json.loads((root / "var" / "sandbox.json").read_text())
        self.hosted = sandbox["hosted"]
        bearer = (root / self.hosted["accessTokenFile"]).read_text().strip()
        self.headers = {
            "X-Client-Key": self.hosted["clientKey"],
            "Authorization": f"Bearer {bearer}",
        }
        tls = ssl.create_default_context(cafile=root / sandbox["ca"])
        self.http = httpx.Client(verify=tls, base_url=self.hosted["baseUrl"], timeout=HANG_SECONDS)

    def ask(self, path: str, origin: str = "", **members: object) -> httpx.Response:
        headers = self.headers | ({"Origin": origin} if origin else {})
        return patiently(lambda: self.http.post(path, headers=headers, json=members))

    def image(self) -> httpx.Response:
        return self.http.get(self.ask("/v1/card/pin/token").json()["imageUrl"])

    def set(self, pin: str) -> httpx.Response:
        asked = self.ask("/v1/card/set-pin/token").json()
        assert self.http.get(asked["hostedPageUrl"]).status_code == 200
        opened = self.http.post("/pin-direct/session", json={"token": asked["token"]}).json()
        body = sealed(asked["token"], opened, pin)
        return self.http.post("/pin-direct/submit", json=body)


def test_a_foreign_app_needs_only_the_sandbox_file(running: Tree) -> None:
    app, d1 = ForeignApp(running.root), ForeignClient(running.root)
    card, issuer = app.hosted["cardId"], app.hosted["issuerId"]
    (cards,) = (each["cards"] for each in d1.sandbox["issuers"] if each["issuerId"] == issuer)
    (pan,) = (each["pan"] for each in cards if each["cardId"] == card)
    with app.http, d1.http:
        d1.authorise()
        assert app.set("5273").status_code == 204
        image = app.image()
        assert (image.status_code, image.headers["X-Pin-Result"]) == (200, "shown")
        assert image.content.startswith(b"\x89PNG")
        assert d1.get(f"/cms/api/v1/issuers/{issuer}/cards/{card}/pin", pan) == "5273"


class ForeignServer:
    """A server, and the page in a frame, by somebody who has only ``sandbox.json`` and PyPI."""

    def __init__(self, root: Path) -> None:
        sandbox = json.loads((root / "var" / "sandbox.json").read_text())
        self.pincontrol = sandbox["pincontrol"]
        self.password = (root / self.pincontrol["passwordFile"]).read_text().strip()
        tls = ssl.create_default_context(cafile=root / sandbox["ca"])
        self.http = httpx.Client(
            verify=tls, base_url=self.pincontrol["baseUrl"], timeout=HANG_SECONDS
        )

    def ask(self, plastic: str, scope: str) -> httpx.Response:
        return self.http.post(
            f"/pincontrol/v2/plastic/{self.pincontrol[plastic]}",
            params={"auditUser": self.pincontrol["auditUser"]},
            auth=(self.pincontrol["user"], self.password),
            json={"scope": scope},
        )

    def page(self, verb: str, plastic: str, scope: str) -> tuple[str, httpx.Response]:
        """Load the page, and have its script send its control id; return that and the answer."""
        asked, key = self.ask(plastic, scope).json(), self.pincontrol["frameKey"]
        assert self.http.get(asked["pinFrameURL"], params={"key": key}).status_code == 200
        body = {"controlId": asked["id"], "key": key}
        return asked["id"], self.http.post(f"/pincontrol/page/{verb}", json=body)

    def view(self, plastic: str) -> str:
        control_id, image = self.page("view", plastic, "VIEW_PIN")
        assert (image.status_code, image.headers["X-Pin-Result"]) == (200, "shown")
        assert image.content.startswith(b"\x89PNG")
        session, key = image.headers["X-Pin-Session"], JWK.generate(kty="EC", crv="P-256")
        public = key.export_public(as_dict=True)
        body = {"session": session, "controlToken": control_id, "key": public}
        jwe = JWE(algs=JWE_ALGORITHMS)
        jwe.deserialize(self.http.post("/pincontrol/page/digits", json=body).json()["jwe"], key)
        inside = json.loads(jwe.payload)
        assert inside["grantId"] == image.headers["X-Pin-Grant"]
        return str(inside["digits"])

    def set(self, pin: str) -> httpx.Response:
        control_id, opening = self.page("session", "unproducedPlasticId", "SET_PIN")
        body = sealed(control_id, opening.json(), pin)
        return self.http.post("/pincontrol/page/submit", json=body)


def test_a_foreign_server_needs_only_the_sandbox_file(running: Tree) -> None:
    server = ForeignServer(running.root)
    with server.http:
        assert server.set("6382").status_code == 204
        assert server.view("unproducedPlasticId") == "6382"
        assert len(server.view("producedPlasticId")) >= 4
        refused = server.ask("producedPlasticId", "SET_PIN")
        assert (refused.status_code, refused.json()["code"]) == (403, "403")
    assert pin_of_cardholder(running) == "6382"


def test_the_host_page_may_call_and_frame_the_service_and_be_led_back_to(running: Tree) -> None:
    page = host_page(running)
    origin, app = page.removesuffix("/"), ForeignApp(running.root)
    path = "/v1/card/set-pin/token"
    with app.http:
        framed = app.ask(path, origin, isEmbedded=True)
        assert framed.headers["Access-Control-Allow-Origin"] == origin
        set_page = app.http.get(framed.json()["hostedPageUrl"])
        assert f"frame-ancestors {origin};" in set_page.headers["Content-Security-Policy"]
        for back in (page, "com.example.demo:/back"):
            assert app.ask(path, redirectUrl=back).status_code == 200


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@contextmanager
def browsing(tree: Tree, browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """The host page in a browser, and what that complains about."""
    with new_context(browser, ignore_https_errors=True, locale="en-GB") as context:
        page = context.new_page()
        complaints = heard(page)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(host_page(tree))
        yield page, complaints


def heard(page: Page) -> list[str]:
    """What a page prints from now on."""
    lines: list[str] = []
    page.on("console", lambda message: lines.append(message.text))
    return lines


def test_a_person_sees_and_sets_the_pin_on_the_host_page(running: Tree, browser: Browser) -> None:
    with browsing(running, browser) as (page, complaints):
        page.get_by_role("button", name="Show PIN").click()
        page.get_by_role("button", name="Hide").wait_for()
        assert (
            page.locator("#pin").evaluate("image => image.naturalWidth / image.naturalHeight") == 3
        )

        page.get_by_role("button", name="Set PIN here").click()
        page.frame_locator("iframe").get_by_label("New PIN", exact=True).wait_for()
        page.evaluate(FORGED_END)
        assert page.locator("iframe").count() == 1
        enter(page.frame_locator("iframe"), "4071")
        page.get_by_text("The page has closed").wait_for()
        assert page.locator("iframe").count() == 0
        assert pin_of_cardholder(running) == "4071"

        page.get_by_role("button", name="Set PIN on its own page").click()
        enter(page, "9350")
        page.get_by_text("Back from the page").wait_for()
        assert page.url == host_page(running)
        assert pin_of_cardholder(running) == "9350"
        assert complaints == []

        page.route("**/v1/card/status", lambda route: route.abort())
        page.get_by_role("button", name="Refresh").click()
        service = running.sandbox()["hosted"]["baseUrl"]
        assert page.get_by_role("link").get_attribute("href") == service


@pytest.mark.parametrize(
    ("app", "success"),
    [("android", "set_pin_success"), ("ios", '{"event":"set_pin_success"}')],
)
def test_a_person_plays_a_native_app_on_the_host_page(
    running: Tree, browser: Browser, app: str, success: str
) -> None:
    with browsing(running, browser) as (page, complaints):
        with page.context.expect_page() as opened:
            page.locator(f"#{app}-view").click()
        opened.value.locator("#image-box img").wait_for()
        with page.context.expect_page() as opened:
            page.locator(f"#{app}-set").click()
        tab = opened.value
        tab.get_by_label("New PIN", exact=True).wait_for()
        # As a person types it into the console.
        tab.evaluate(f"() => {{ {page.locator(f'#{app}-handler').text_content()} }}")
        lines = heard(tab)
        fill(tab, "6150")
        tab.evaluate("set_pin()")
        tab.get_by_text("Your new PIN is set").wait_for()
        assert lines[-1] == success
        assert len(lines) > 1
        assert all("pin_valid" in line for line in lines[:-1])
        assert pin_of_cardholder(running) == "6150"
        assert complaints == []


def test_a_person_plays_the_parent_of_an_iframe_on_the_host_page(
    running: Tree, browser: Browser
) -> None:
    with browsing(running, browser) as (page, complaints):
        events = page.locator("#events")
        page.locator("#frame-set").click()
        fill(page.frame_locator("iframe"), "9726")
        events.get_by_text('{"event":"pin_valid","pin_valid":true}').wait_for()
        page.evaluate(FORGED_SUCCESS)
        assert "set_pin_success" not in events.inner_text()
        page.get_by_role("button", name="Send set-pin-set").click()
        events.get_by_text('{"event":"set_pin_success"}').wait_for()
        assert pin_of_cardholder(running) == "9726"
        page.get_by_role("button", name="Close").click()
        assert page.locator("iframe").count() == 0

        page.get_by_label("of another card").check()
        page.locator("#frame-view").click()
        events.get_by_text("view_pin_success").wait_for()
        assert complaints == []
        page.locator("#frame-set").click()
        page.locator("#refusal").wait_for()
        error = json.loads(page.locator("#refusal").inner_text())
        assert (error["code"], error["errorType"]) == ("403", "DYNAMIC_VALIDATION_ERROR")


def enter(where: Page | FrameLocator, pin: str) -> None:
    """Type a PIN twice into the set page, and confirm."""
    fill(where, pin)
    where.get_by_role("button", name="Set PIN").click()


def fill(where: Page | FrameLocator, pin: str) -> None:
    """Type a PIN twice into the set page."""
    where.get_by_label("New PIN", exact=True).fill(pin)
    where.get_by_label("Repeat the new PIN").fill(pin)


def listeners(pid: int) -> list[tuple[str, int]]:
    """Address and port of every TCP socket on which a process takes callers."""
    inodes = set()
    with contextlib.suppress(OSError):  # it has ended
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(file.readlink().name)
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    rows6 = [row.split() for row in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    found = []
    for row in rows + rows6:
        if row[3] == LISTENING and f"socket:[{row[9]}]" in inodes:
            address, _, port = row[1].partition(":")
            shown = str(IPv4Address(bytes.fromhex(address)[::-1])) if len(address) == 8 else address
            found.append((shown, int(port, 16)))
    return found


def processes_in(root: Path) -> list[int]:
    """Every process that works in or on a directory."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            words = (entry / "cmdline").read_bytes().decode(errors="replace")
            if (str(root) in words or (entry / "cwd").readlink() == root) and runs(pid):
                found.append(pid)
    return found


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """A tree whose first demo was killed half-way."""
    tree = Tree(tmp_path_factory.mktemp("interrupted") / "tree")
    with tree.demo(until="$ python -m cms clients add var/config/demobank02") as process:
        below = family(process.pid)
        process.kill()
        wait_for(lambda: not any(map(runs, below)))
    return tree


def test_a_set_up_that_was_interrupted_is_finished_by_the_next_run(interrupted: Tree) -> None:
    with interrupted.demo() as process:
        assert transcript(interrupted.printed_by_demo()) == CONVERSATIONS
        takes_everything_with_it(process, signal.SIGINT, 0)
    assert processes_in(interrupted.root) == []


@pytest.mark.parametrize(
    ("ending", "code"),
    [
        pytest.param(signal.SIGTERM, 128 + signal.SIGTERM, id="SIGTERM"),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, id="SIGKILL"),
    ],
)
def test_the_demo_takes_everything_with_it_that_it_started(
    interrupted: Tree, ending: signal.Signals, code: int
) -> None:
    with interrupted.demo() as process:
        takes_everything_with_it(process, ending, code)
        directories = interrupted.short_lived()
        assert [*chain.from_iterable(each.glob("*") for each in directories)] == []
        assert any(each.exists() for each in directories) == (ending == signal.SIGKILL)
    assert processes_in(interrupted.root) == []


def takes_everything_with_it(
    process: subprocess.Popen[bytes], ending: signal.Signals, code: int
) -> None:
    """Show that nothing of a demo is left once a signal has ended it."""
    below = family(process.pid)
    assert len(below) > 3  # the service, its workers, Postgres
    process.send_signal(ending)
    assert process.wait(HANG_SECONDS) == code
    wait_for(lambda: not any(map(runs, below)))
