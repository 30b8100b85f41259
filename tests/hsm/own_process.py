"""What must happen in a process of its own: opening an HSM token ends every handle of its process.

``run("name", softhsm)`` runs the function of that name in another process; what it prints as
JSON, or how it died, comes back.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.attributes import AttributeMapper

from cms.sandbox import HANG_SECONDS
from hsm import health
from hsm.errors import HsmError
from hsm.jose_keys import JoseKeys
from hsm.pkcs11 import own_keys
from hsm.pkcs11.fingerprints import Fingerprints
from hsm.pkcs11.keyring import Keyring
from hsm.pkcs11.keys import OWN_ROLES, KeyLabel, KeyRole
from hsm.pkcs11.token import Pkcs11Token
from hsm.settings import HsmTokenSettings
from tests.operators import open_vault

ROOT = Path(__file__).resolve().parents[2]
FIRST = [KeyLabel(role, 1) for role in OWN_ROLES]
SECOND = [KeyLabel(role, 2) for role in OWN_ROLES]
THREADS, OPERATIONS, ROUNDS = 8, 100, 5


class OwnHsmToken(Protocol):
    """An HSM token that other processes open."""

    @property
    def directory(self) -> Path:
        """Where its PINs are: ``user-pin`` and ``officer-pin``."""
        ...

    @property
    def environment(self) -> dict[str, str]:
        """The variables that name it."""
        ...


def environment(hsm_token: OwnHsmToken) -> dict[str, str]:
    """The environment of a process that uses *hsm_token*."""
    return {**os.environ, **hsm_token.environment}


def run(function: str, softhsm: OwnHsmToken) -> Any:  # noqa: ANN401 - JSON
    """Run a function of this file on *softhsm*; a crash fails the test with what it wrote."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hsm.own_process", function],
        cwd=ROOT,
        env=environment(softhsm),
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr)
    return json.loads(done.stdout)


def start(function: str, softhsm: OwnHsmToken) -> subprocess.Popen[str]:
    """Start a function that reads a line of standard input for each of its rounds."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.hsm.own_process", function],
        cwd=ROOT,
        env=environment(softhsm),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def show(text: str) -> None:
    """Write a line to the process that started this one."""
    print(text, flush=True)  # noqa: T201 - this is how such a process answers


def login_and_files() -> dict[str, str]:
    """Open the HSM token with one setting wrong at a time; the wrong PIN comes last."""
    good = HsmTokenSettings()
    directory = good.pin_file.parent
    files = {
        "binary": b"\xff\xfe\xff\xfe",
        "empty": b"",
        "another": b"00000000\n",
        "windows": b"\xef\xbb\xbf" + good.pin_file.read_bytes().rstrip() + b"\r\n",
    }
    for name, content in files.items():
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    wrong: dict[str, dict[str, object]] = {
        "no module": {"module": directory / "none.so"},
        "module is no library": {"module": good.pin_file},
        "library is no module": {"module": Path("/lib/x86_64-linux-gnu/libc.so.6")},
        "no token": {"token_label": "another"},
        "no PIN file": {"pin_file": directory / "none"},
        "PIN file is a directory": {"pin_file": directory},
        "PIN file is not text": {"pin_file": directory / "binary"},
        "empty PIN": {"pin_file": directory / "empty"},
        "wrong PIN": {"pin_file": directory / "another"},
        "as Windows writes it": {"pin_file": directory / "windows"},
        "nothing wrong": {},
    }
    return {name: outcome(good.model_copy(update=change)) for name, change in wrong.items()}


def outcome(settings: HsmTokenSettings) -> str:
    """Open the HSM token and close it, or name the error."""
    try:
        Pkcs11Token.open(settings).close()
    except HsmError as error:
        return type(error).__name__
    return "open"


def threads() -> int:
    """Use the HSM token from many threads, each with a session of its own; count right answers."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    list(own_keys.create(hsm_token, FIRST))
    right = []

    def work() -> None:
        session = another_session(hsm_token)
        key = session.get_key(object_class=ObjectClass.SECRET_KEY, label="pin.g1")
        mac_key = session.get_key(object_class=ObjectClass.SECRET_KEY, label="pin-mac.g1")
        mac = mac_key.sign(bytes(16), mechanism=Mechanism.AES_CMAC)
        for number in range(OPERATIONS):
            block = number.to_bytes(16)
            sealed = key.encrypt(block, mechanism=Mechanism.AES_ECB)
            assert key.decrypt(sealed, mechanism=Mechanism.AES_ECB) == block
            assert mac_key.sign(bytes(16), mechanism=Mechanism.AES_CMAC) == mac
            assert len(session.generate_random(128)) == 16
            assert session.get_key(object_class=ObjectClass.PRIVATE_KEY, label="d1.g1")
        right.append(OPERATIONS)

    workers = [threading.Thread(target=work) for _ in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(right)


def open_in_rounds() -> None:
    """Open, use and close the HSM token at each line of standard input."""
    show("ready")
    for _ in sys.stdin:
        try:
            hsm_token = Pkcs11Token.open(HsmTokenSettings())
            keyring = Keyring(hsm_token)
            jose_keys = JoseKeys(hsm_token, keyring)
            fingerprints = Fingerprints(hsm_token, keyring)
            health.check(hsm_token, jose_keys, keyring.active.values(), fingerprints)
            hsm_token.close()
        except Exception as error:  # noqa: BLE001 - the test wants to know any
            show(repr(error))
        else:
            show("open")


def hsm_token_taken_away() -> dict[str, str]:
    """Take the HSM token away while it is open, and bring it back."""
    tokens = HsmTokenSettings().pin_file.parent / "tokens"
    open_hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    list(own_keys.create(open_hsm_token, FIRST))
    sealed = open_hsm_token.encrypt_block(FIRST[0], bytes(16))
    with taken_away(tokens):
        seen = {"a call": attempt(lambda: open_hsm_token.encrypt_block(FIRST[0], bytes(16)))}
        seen["an opening"] = outcome(HsmTokenSettings())
    again = Pkcs11Token.open(HsmTokenSettings())
    same = again.decrypt_block(FIRST[0], sealed) == bytes(16)
    return {**seen, "back": "the same key" if same else "another key"}


def another_session(hsm_token: Pkcs11Token, **given: object) -> Any:  # noqa: ANN401 - the binding's
    """Open a session of another application of this process, which shares the login."""
    return hsm_token._library.get_token(token_label=HsmTokenSettings().token_label).open(**given)


@contextmanager
def taken_away(path: Path) -> Iterator[None]:
    hidden = path.with_name("hidden")
    path.rename(hidden)
    path.mkdir()
    yield
    shutil.rmtree(path)
    hidden.rename(path)


def attempt(call: Callable[[], object]) -> str:
    try:
        return repr(call())
    except HsmError as error:
        return type(error).__name__


def generations() -> dict[str, Any]:
    """Seal, hold a second ceremony, and open the HSM token again."""
    # Not at the top: it loads half of the service, which the other functions need not wait for.
    from tests.contracts.issuer import PIN, open_host, open_issuer
    from tests.key_tables import make_newest_active

    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    list(own_keys.create(hsm_token, FIRST))
    hosts = HsmTokenSettings().pin_file.parent
    before = open_issuer(open_host(hsm_token, hosts))
    old_pan = before.seal_record()
    old_pin = before.set_pin(PIN, old_pan)
    reports = [asdict(own_keys.report(hsm_token, label)) for label in FIRST]
    list(own_keys.create(hsm_token, SECOND))
    make_newest_active(before.host.vault, before.host.directory, hsm_token)
    hsm_token.close()

    hsm_token = Pkcs11Token.open(HsmTokenSettings())
    after = replace(before, host=replace(before.host, hsm_token=hsm_token).reopened())
    new_pan = after.seal_record()
    new_pin = after.set_pin(PIN, new_pan)
    first = [asdict(own_keys.report(hsm_token, label)) for label in FIRST]
    return {
        "sealed under": [str(unpacked(sealed)) for sealed in (old_pan, old_pin, new_pan, new_pin)],
        "old PIN": after.pin(old_pin, old_pan) == PIN,
        "new PIN": after.pin(new_pin, new_pan) == PIN,
        "first keys as before": first == reports,
    }


def unpacked(sealed: bytes) -> str:
    return sealed[2 : 2 + sealed[1]].decode()


def foreign_objects() -> list[str]:
    """Put objects of other applications beside ours, then open the HSM token."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    list(own_keys.create(hsm_token, FIRST))
    mapper = AttributeMapper()
    mapper.register_handler(Attribute.LABEL, lambda label: label or b"", bytes)
    with another_session(hsm_token, rw=True, attribute_mapper=mapper) as session:
        for label in ("another", "pin.g1x", "PIN.g1", "pin.g0", "zpk.g1", "", "ключ"):
            session.generate_key(KeyType.AES, 256, label=label.encode(), store=True)
        session.generate_key(KeyType.AES, 256, label=b"schl\xfcssel", store=True)
        note = {Attribute.CLASS: ObjectClass.DATA, Attribute.LABEL: b"pin.g1"}
        session.create_object({**note, Attribute.TOKEN: True, Attribute.VALUE: b"a note"})
    hsm_token.close()
    return sorted(map(str, Pkcs11Token.open(HsmTokenSettings()).labels()))


def begun_host() -> int:
    """Make the keys, and begin the host of the environment; count the keys."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    list(own_keys.create(hsm_token, FIRST))
    open_vault(hsm_token, Path(os.environ["HSM_STATE_DIRECTORY"]))
    return len(hsm_token.labels())


def extractable_key() -> str:
    """Make a key as somebody else would, whose label is one of ours."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    label = KeyLabel(FIRST[0].role, 2)
    template = {Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False}
    hsm_token._session.generate_key(
        KeyType.AES, 256, label=str(label), store=True, template=template
    )
    return str(label)


def another_key() -> str:
    """Put another key in the place of one, as somebody with the PIN of the HSM token can."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    label = KeyLabel(KeyRole.GRANT_MAC, 3)
    hsm_token.destroy(label)
    hsm_token.generate(label)
    return str(label)


def two_keys_of_one_label() -> str:
    """Let another application make a key that has the label of one of ours."""
    hsm_token = Pkcs11Token.open(HsmTokenSettings(), writable=True)
    hsm_token.generate(FIRST[0])
    hsm_token._session.generate_key(KeyType.AES, 256, label=str(FIRST[0]), store=True)
    hsm_token.close()
    return outcome(HsmTokenSettings())


FUNCTIONS = {
    function.__name__: function
    for function in (
        login_and_files,
        threads,
        open_in_rounds,
        hsm_token_taken_away,
        generations,
        foreign_objects,
        another_key,
        two_keys_of_one_label,
        begun_host,
        extractable_key,
    )
}

if __name__ == "__main__":
    shown = FUNCTIONS[sys.argv[1]]()
    if shown is not None:
        show(json.dumps(shown))
