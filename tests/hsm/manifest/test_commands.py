"""``python -m hsm manifest``: what operators type, away from the machines that serve."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from crypto.jose import jws_json
from hsm.__main__ import main
from hsm.manifest import minimum_versions, model
from hsm.manifest.body import canonical_body
from hsm.manifest.operator_key import OperatorKey
from hsm.manifest.trust import Trust

ISSUER_ID = "testbank01"
PASSPHRASE = "correct horse battery staple"


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Desk:
    """A machine that serves nobody, and the files on it."""

    def __init__(
        self,
        directory: Path,
        patch: pytest.MonkeyPatch,
        capture: pytest.CaptureFixture[str],
    ) -> None:
        self.directory = directory
        self._patch = patch
        self._capture = capture

    def __call__(self, *words: str, typed: Sequence[str] = ()) -> Done:
        """Run a command of the noun; *typed* is what comes from a pipe, line by line."""
        self._patch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
        try:
            code = main(["manifest", *words])
        except SystemExit as refusal:
            code = int(str(refusal.code))
        out, err = self._capture.readouterr()
        assert PASSPHRASE not in out + err
        return Done(code, out, err)

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def text(self, name: str) -> str:
        return (self.directory / name).read_text()

    def key(self, name: str, *issuers: str) -> dict[str, Any]:
        """Make a key without a passphrase in ``NAME.pem``; return its entry of a trust file."""
        limits = ["--issuer", *issuers] if issuers else []
        done = self("key", self.path(f"{name}.pem"), "--name", name, "--no-passphrase", *limits)
        entry: dict[str, Any] = json.loads(done.out)
        return entry

    def draft(self, name: str = "draft.json", *more: str) -> str:
        """Write a new draft."""
        (self.directory / name).write_text(self("new", ISSUER_ID, *more).out)
        return self.path(name)

    def trust(self, *entries: dict[str, Any], sandbox: bool = False) -> str:
        """Write a trust file that needs two signatures."""
        trust = {"threshold": 2, "sandbox": sandbox, "operators": entries}
        (self.directory / "trust.json").write_text(json.dumps(trust))
        return self.path("trust.json")


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Desk:
    # No command here needs an HSM token, nor a setting.
    for name in ("HSM_MODULE", "HSM_TOKEN_LABEL", "HSM_PIN_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Desk(tmp_path, monkeypatch, capsys)


def refused(done: Done, message: str) -> None:
    assert (done.code, done.err) == (2, f"{message}\n")


# Keys


def test_a_key_is_made_in_a_new_file_that_its_owner_alone_reads(desk: Desk) -> None:
    done = desk("key", desk.path("ann.pem"), "--name", "Ann", "--no-passphrase")
    assert (done.code, done.err) == (0, "")
    file = desk.directory / "ann.pem"
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_pem_private_key(file.read_bytes(), None)
    entry = json.loads(done.out)
    assert (entry["name"], entry["issuers"]) == ("Ann", "all")
    assert "d" not in entry["jwk"]
    assert Trust.model_validate_json(
        json.dumps({"threshold": 1, "sandbox": True, "operators": [entry]})
    )
    before = file.read_bytes()
    again = desk("key", desk.path("ann.pem"), "--name", "Ann", "--no-passphrase")
    refused(again, "the file of the key is there already")
    assert file.read_bytes() == before


def test_a_key_may_be_for_some_issuers(desk: Desk) -> None:
    assert desk.key("ann", ISSUER_ID, "testbank02")["issuers"] == [ISSUER_ID, "testbank02"]


def test_a_key_has_a_passphrase_that_is_typed_twice(desk: Desk) -> None:
    make = ("key", desk.path("ann.pem"), "--name", "Ann")
    refused(desk(*make, typed=["", ""]), "an empty passphrase: say --no-passphrase to have none")
    refused(desk(*make), "an empty passphrase: say --no-passphrase to have none")
    refused(desk(*make, typed=[PASSPHRASE, "another"]), "two different passphrases were typed")
    assert not (desk.directory / "ann.pem").exists()
    assert desk(*make, typed=[PASSPHRASE, PASSPHRASE]).code == 0
    assert desk.text("ann.pem").startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    draft = desk.draft()
    sign = ("sign", draft, "--key", desk.path("ann.pem"))
    for typed in ([], ["another"], [PASSPHRASE + " "]):
        refused(desk(*sign, typed=typed), "not the file of a private key, or a wrong passphrase")
    assert "signatures" not in json.loads(desk.text("draft.json"))
    assert desk(*sign, typed=[PASSPHRASE]).code == 0


@pytest.mark.parametrize("name", ["", "A" * 65])
def test_the_name_of_an_operator_has_a_length(desk: Desk, name: str) -> None:
    done = desk("key", desk.path("ann.pem"), "--name", name, "--no-passphrase")
    refused(done, "a name has 1 to 64 characters")


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_what_is_no_key_of_an_operator_signs_nothing(desk: Desk) -> None:
    files = {
        "empty": (b"", "not the file of a private key, or a wrong passphrase"),
        "junk": (b"-----BEGIN PRIVATE KEY-----\n", "not the file of a private key, or a"),
        "another curve": (pem(ec.generate_private_key(ec.SECP384R1())), "one of P-256"),
        "RSA": (pem(rsa.generate_private_key(65537, 2048)), "one of P-256"),
    }
    draft = desk.draft()
    for name, (content, message) in files.items():
        (desk.directory / name).write_bytes(content)
        done = desk("sign", draft, "--key", desk.path(name))
        assert done.code == 2
        assert message in done.err
    refused(desk("sign", draft, "--key", desk.path("none")), "the file of the key cannot be read")
    assert "signatures" not in json.loads(desk.text("draft.json"))


# Drafts


def test_a_new_draft_has_every_default_and_is_for_a_year_from_now(desk: Desk) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    done = desk("new", ISSUER_ID)
    assert (done.code, done.err) == (0, "")
    manifest = model.parse(done.out.encode())
    assert json.loads(done.out) == json.loads(manifest.canonical())
    assert before <= manifest.valid_from <= datetime.now(UTC)
    assert manifest.valid_until == manifest.valid_from + timedelta(days=365)
    assert (manifest.issuer_id, manifest.version, manifest.sandbox) == (ISSUER_ID, 1, False)
    assert model.parse(desk("new", ISSUER_ID, "--sandbox").out.encode()).sandbox


@pytest.mark.parametrize("issuer_id", ["testbank0", "testbank@1", ""])
def test_a_draft_is_of_an_issuer(desk: Desk, issuer_id: str) -> None:
    done = desk("new", issuer_id)
    assert done.code == 2
    assert "not 10 characters, none of them @" in done.err


def test_a_draft_that_leaves_defaults_out_is_shown_with_them(desk: Desk) -> None:
    whole = json.loads(desk("new", ISSUER_ID).out)
    short = {name: whole[name] for name in ("issuer_id", "version", "valid_from", "valid_until")}
    (desk.directory / "short.json").write_text("\N{BYTE ORDER MARK}" + json.dumps(short))
    assert json.loads(desk("show", desk.path("short.json")).out) == whole
    desk.key("ann")
    out = desk.path("signed.json")
    desk("sign", desk.path("short.json"), "--key", desk.path("ann.pem"), "--out", out)
    assert desk("show", out).out == desk("show", desk.path("short.json")).out
    assert json.loads(jws_json.parse(desk.text("signed.json")).payload) == whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a JSON object"),
        (b"[]", "not a JSON object"),
        (b"\xff", "the file cannot be read"),
        (b"{}", "refused members: issuer_id, valid_from, valid_until, version"),
        (b'{"minimum_versions":5}', "refused members: minimum_versions, valid_from, valid_until"),
        (b'{"signatures":[]}', "not a signed text in canonical form"),
        (b'{"payload":"W10","signatures":[]}', "not a signed text in canonical form"),
        (b'{"payload":"e30","signatures":[]}', "refused members: issuer_id, valid_from,"),
    ],
    ids=str,
)
def test_a_file_that_is_neither_a_draft_nor_signed_is_refused(
    desk: Desk, content: bytes, message: str
) -> None:
    desk.key("ann")
    (desk.directory / "file").write_bytes(content)
    file, key, out = desk.path("file"), desk.path("ann.pem"), desk.path("out")
    for words in (
        ("show", file),
        ("diff", file, file),
        ("sign", file, "--key", key),
        ("verify", file, "--trust", file),
        ("change", file, "version=2", "--out", out),
    ):
        done = desk(*words)
        assert (done.code, done.out) == (2, "")
        assert message in done.err
        assert done.err.count("\n") == 1
    assert not (desk.directory / "out").exists()


# Signing


def test_two_operators_sign_one_after_the_other_and_a_host_would_take_it(desk: Desk) -> None:
    trust = desk.trust(desk.key("ann"), desk.key("bob", ISSUER_ID))
    draft, signed = desk.draft(), desk.path("signed.json")
    first = desk("sign", draft, "--key", desk.path("ann.pem"), "--out", signed)
    assert (first.code, first.err) == (0, "")
    assert first.lines[0] == f"manifest of '{ISSUER_ID}', version 1"
    assert first.lines[1].startswith("in force from ")
    assert first.lines[2].startswith("SHA-256 ")
    assert first.lines[-1] == "signatures: 1"
    assert "signatures" not in json.loads(desk.text("draft.json"))

    alone = desk("verify", signed, "--trust", trust)
    assert alone.code == 2
    assert alone.lines[-2:] == ["signed by 'ann'", "1 of 2 signatures"]
    assert alone.err == "too few signatures of operators who may sign for this issuer\n"

    second = desk("sign", signed, "--key", desk.path("bob.pem"))
    assert second.lines[:3] == first.lines[:3]
    both = desk("verify", signed, "--trust", trust)
    assert (both.code, both.err) == (0, "")
    assert both.lines[-3:] == ["signed by 'ann'", "signed by 'bob'", "2 of 2 signatures"]


def test_both_may_sign_at_once(desk: Desk) -> None:
    trust = desk.trust(desk.key("ann"), desk.key("bob"))
    for words in (
        ("--key", desk.path("ann.pem"), "--key", desk.path("bob.pem")),
        ("--key", desk.path("ann.pem"), desk.path("bob.pem")),
    ):
        draft = desk.draft()
        assert desk("sign", draft, *words).lines[-1] == "signatures: 2"
        assert desk("verify", draft, "--trust", trust).code == 0


SAME_BLOCK = (
    "warning: seccos.pin_block.same_on_every_card: the same PIN makes the same block on every"
    " card; whoever sees blocks sees which cards have one PIN"
)
KEYS_OF_ALL_CARDS = (
    "warning: seccos: by session_key none, block and MAC of a script, or one of them, are under a"
    " key of all cards"
)


@pytest.mark.parametrize(
    ("seccos", "warnings"),
    [
        ("null", []),
        ("{}", []),
        (
            '{"pin_block": {"session_key": "none", "same_on_every_card": true}}',
            [SAME_BLOCK, KEYS_OF_ALL_CARDS],
        ),
        ('{"pin_block": {"session_key": "none", "clear_format": "iso0"}}', [KEYS_OF_ALL_CARDS]),
        ('{"mac": {"session_key": "none"}}', [KEYS_OF_ALL_CARDS]),
    ],
)
def test_seccos_without_keys_of_cards_is_warned_of_before_anybody_signs(
    desk: Desk, seccos: str, warnings: list[str]
) -> None:
    trust = desk.trust(desk.key("ann"), desk.key("bob"))
    new = desk.path("new.json")
    changed = desk("change", desk.draft(), f"seccos={seccos}", "--out", new)
    signed = desk("sign", new, "--key", desk.path("ann.pem"), desk.path("bob.pem"))
    verified = desk("verify", new, "--trust", trust)
    for done in (changed, signed, verified):
        assert done.code == 0
        assert [line for line in done.lines if line.startswith("warning:")] == warnings


def test_the_same_block_on_every_card_is_asked_for_by_name(desk: Desk) -> None:
    done = desk(
        "change",
        desk.draft(),
        'seccos={"pin_block": {"session_key": "none"}}',
        *("--out", desk.path("new.json")),
    )
    refused(done, "refused members: seccos.pin_block.same_on_every_card")


def test_who_signs_again_has_signed_once(desk: Desk) -> None:
    trust = desk.trust(desk.key("ann"), desk.key("bob"))
    draft = desk.draft()
    for _ in range(2):
        assert desk("sign", draft, "--key", desk.path("ann.pem")).lines[-1] == "signatures: 1"
    twice = desk("sign", draft, "--key", desk.path("ann.pem"), desk.path("ann.pem"))
    assert twice.code == 0
    assert desk("verify", draft, "--trust", trust).lines[-1] == "1 of 2 signatures"


def test_signatures_that_do_not_count_are_shown(desk: Desk) -> None:
    ann, bob, cay = desk.key("ann"), desk.key("bob", "testbank02"), desk.key("cay")
    trust = desk.trust(ann, bob)
    draft = desk.draft()
    desk(
        "sign",
        draft,
        *(w for name in ("ann", "bob", "cay") for w in ("--key", desk.path(f"{name}.pem"))),
    )
    done = desk("verify", draft, "--trust", trust)
    assert done.code == 2
    strangers = [line for line in done.lines if line.startswith("does not count: ")]
    assert len(strangers) == 2
    kids = [
        OperatorKey.read(Path(desk.path(f"{name}.pem")), pytest.fail).public.kid
        for name in ("bob", "cay")
    ]
    assert [line.removeprefix("does not count: the signature of ") for line in strangers] == [
        repr(kid) for kid in kids
    ]
    assert cay["jwk"] != ann["jwk"]


def test_what_is_for_trials_is_verified_by_a_trust_file_for_trials(desk: Desk) -> None:
    entries = desk.key("ann"), desk.key("bob")
    draft = desk.draft("draft.json", "--sandbox")
    done = desk("sign", draft, "--key", desk.path("ann.pem"), desk.path("bob.pem"))
    assert done.lines[0] == f"manifest of '{ISSUER_ID}', version 1, for trials"
    assert desk("verify", draft, "--trust", desk.trust(*entries, sandbox=True)).code == 0
    refusal = desk("verify", draft, "--trust", desk.trust(*entries))
    assert (refusal.code, refusal.err) == (2, "a manifest for trials\n")


def test_what_has_a_member_left_out_is_not_signed_further(desk: Desk) -> None:
    desk.key("ann")
    body = json.loads(desk("new", ISSUER_ID).out)
    del body["policy"]
    payload = canonical_body(body)
    (desk.directory / "signed.json").write_text(str(jws_json.SignedText(payload, ())))
    done = desk("sign", desk.path("signed.json"), "--key", desk.path("ann.pem"))
    assert done.code == 2
    assert done.err == "not every member is written out: sign a draft of it\n"


def test_an_issuer_id_moves_no_cursor(desk: Desk) -> None:
    desk.key("ann")
    body = {**json.loads(desk("new", ISSUER_ID).out), "issuer_id": "\x1b[2K\rbank1"}
    (desk.directory / "draft.json").write_text(json.dumps(body))
    done = desk("sign", desk.path("draft.json"), "--key", desk.path("ann.pem"))
    assert done.lines[0] == r"manifest of '\x1b[2K\rbank1', version 1"
    for words in (("show",), ("verify", "--trust", desk.trust(desk.key("a"), desk.key("b")))):
        assert "\x1b" not in desk(*words, desk.path("draft.json")).out


# Changing


def test_the_next_version_is_shown_and_signed(desk: Desk) -> None:
    trust = desk.trust(desk.key("ann"), desk.key("bob"))
    draft, keys = desk.draft(), ("--key", desk.path("ann.pem"), desk.path("bob.pem"))
    desk("sign", draft, *keys)
    before = desk.text("draft.json")
    new = desk.path("new.json")
    change = (
        "change",
        draft,
        "policy.length_max=6",
        'wire.jwe.our_kids=[{"kid":"bank-2026"}]',
        *("--out", new),
    )
    done = desk(*change, *keys, typed=["y"])
    assert (done.code, done.err) == (0, "")
    shown = [
        "policy.length_max: 8 -> 6",
        "version: 1 -> 2",
        'wire.jwe.our_kids: [] -> [{"generation": 1, "kid": "bank-2026"}]',
    ]
    assert done.lines == shown
    assert desk("diff", draft, new).lines == shown
    assert desk("diff", draft, draft).lines == []
    assert desk("verify", new, "--trust", trust).code == 0
    assert desk.text("draft.json") == before


@pytest.mark.parametrize("typed", [[], [""], ["n"], ["yy"]], ids=str)
def test_without_a_yes_nothing_is_signed_nor_written(desk: Desk, typed: list[str]) -> None:
    desk.key("ann")
    out = ("--out", desk.path("new.json"), "--key", desk.path("ann.pem"))
    done = desk("change", desk.draft(), "policy.length_max=6", *out, typed=typed)
    assert done.lines == ["policy.length_max: 8 -> 6", "version: 1 -> 2"]
    refused(done, "not signed: nothing was written")
    assert not (desk.directory / "new.json").exists()


def test_without_a_key_the_next_version_is_a_draft(desk: Desk) -> None:
    desk.key("ann")
    draft, new = desk.draft(), desk.path("new.json")
    desk("sign", draft, "--key", desk.path("ann.pem"))
    assert desk("change", draft, "sandbox=true", "--out", new).code == 0
    written = model.parse(desk.text("new.json").encode())
    assert (written.version, written.sandbox) == (2, True)
    assert desk("change", new, "sandbox=false", "version=9", "--out", new).code == 0
    assert model.parse(desk.text("new.json").encode()).version == 9


def test_the_next_version_may_be_all_that_changes(desk: Desk) -> None:
    draft, new = desk.draft(), desk.path("new.json")
    for words in ((draft, "--out", new), ("--out", new, draft)):
        done = desk("change", *words)
        assert (done.code, done.lines) == (0, ["version: 1 -> 2"])
        assert model.parse(desk.text("new.json").encode()).version == 2


def test_members_that_go_together_are_changed_together(desk: Desk) -> None:
    draft, new = desk.draft(), desk.path("new.json")
    alone = desk("change", draft, "policy.length_min=6", "--out", new)
    assert (alone.code, alone.out) == (2, "")
    assert "policy.page_length_max" in alone.err
    done = desk("change", draft, "policy.length_min=6", "policy.page_length_max=6", "--out", new)
    assert done.code == 0


def test_who_turns_pre_shared_keys_on_is_told_what_that_means(desk: Desk) -> None:
    draft, new = desk.draft(), desk.path("new.json")
    secrets = json.dumps([{"sha256": "0" * 64}])
    server = f'{{"kind":"server","client_id":"{ISSUER_ID}-server","secrets":{secrets}}}'
    keys = f'[{{"client_id":"{ISSUER_ID}-server","zpk_index":"0"}}]'
    words = (f"clients=[{server}]", f"pin_operations.pre_shared_keys={keys}", "--out", new)
    done = desk("change", draft, *words)
    assert done.code == 0
    assert "warning: pin_operations.pre_shared_keys: testbank01-server sees PINs" in done.out
    for off in ("pin_operations.pre_shared_keys=[]", "pin_operations.pki=true"):
        assert "warning:" not in desk("change", new, off, "--out", new).out
    assert desk("change", new, "pin_operations.pki=1", "--out", new).code == 2


def test_a_client_is_named_by_its_id(desk: Desk) -> None:
    draft, new = desk.draft(), desk.path("new.json")
    app = f'clients=[{{"kind":"app","client_id":"{ISSUER_ID}-app"}}]'
    assert desk("change", draft, app, "--out", new).code == 0
    done = desk("change", new, f'clients[{ISSUER_ID}-app].language="de"', "--out", new)
    assert done.lines == [f'clients[{ISSUER_ID}-app].language: null -> "de"', "version: 2 -> 3"]


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ("policy.length_max=99", "refused members: policy.length_max"),
        ("policy.lenth_max=6", "refused members: policy.lenth_max"),
        ("policy.length_max=NaN", "not a JSON object"),
        ("recipient.jwk={}", "what that member would be in is not there"),
        ("recipient={}", "refused members: recipient.jwk"),
        ("policy-length_max=6", "not the path of a member, as policy.length_max"),
        ("issuer_id=5", "refused members: issuer_id"),
        ("version=0", "refused members: version"),
        ('clients=[{"kind":"app","client_id":"app"}]', "start with the issuer's id"),
    ],
)
def test_a_change_that_no_manifest_can_have_is_refused(
    desk: Desk, member: str, message: str
) -> None:
    done = desk("change", desk.draft(), member, "--out", desk.path("new.json"))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not (desk.directory / "new.json").exists()


@pytest.mark.parametrize("word", ["policy.length_max", "policy.length_max=", "a=text", "a={", "="])
def test_a_change_is_a_path_and_json(desk: Desk, word: str) -> None:
    done = desk("change", desk.draft(), word, "--out", desk.path("new.json"))
    assert done.code == 2
    assert "not PATH=JSON" in done.err


# Minimum versions


def test_minimum_versions_are_made_signed_and_verified(desk: Desk) -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    trust = desk.trust(desk.key("ann"), desk.key("bob"), desk.key("cay", ISSUER_ID))
    file = desk.path("minimum-versions.json")
    done = desk("minimum-versions", f"{ISSUER_ID}=7", "testb=nk02=1", "--out", file)
    assert (done.code, done.out, done.err) == (0, "", "")
    listed = minimum_versions.parse(desk.text("minimum-versions.json").encode())
    assert listed.minimum_versions == {ISSUER_ID: 7, "testb=nk02": 1}
    assert before <= listed.valid_from <= datetime.now(UTC)
    assert listed.valid_until == listed.valid_from + timedelta(days=7)

    signed = desk("sign", file, "--key", desk.path("ann.pem"), desk.path("cay.pem"))
    assert signed.lines[:3] == [
        "list of minimum versions",
        "  'testb=nk02' from version 1",
        f"  '{ISSUER_ID}' from version 7",
    ]
    # Cay may sign for one issuer, and a list concerns all.
    assert desk("verify", file, "--trust", trust).lines[-1] == "1 of 2 signatures"
    desk("sign", file, "--key", desk.path("bob.pem"))
    done = desk("verify", file, "--trust", trust)
    assert (done.code, done.lines[-1]) == (0, "2 of 2 signatures")
    assert json.loads(desk("show", file).out)["minimum_versions"] == listed.minimum_versions


def test_a_list_may_be_of_nobody(desk: Desk) -> None:
    file = desk.path("minimum-versions.json")
    assert desk("minimum-versions", "--out", file).code == 0
    assert (
        minimum_versions.parse(desk.text("minimum-versions.json").encode()).minimum_versions == {}
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((f"{ISSUER_ID}=1", f"{ISSUER_ID}=2"), "an issuer stands there twice"),
        ((f"{ISSUER_ID}=0",), "refused members: minimum_versions"),
        ((ISSUER_ID,), "not ISSUER=VERSION"),
        ((f"{ISSUER_ID}=",), "not ISSUER=VERSION"),
        ((f"{ISSUER_ID}=-1",), "not ISSUER=VERSION"),
        ((f"{ISSUER_ID}=\u0661",), "not ISSUER=VERSION"),
        (("bank=1",), "not 10 characters"),
    ],
    ids=str,
)
def test_what_is_no_minimum_version_is_refused(
    desk: Desk, words: Sequence[str], message: str
) -> None:
    done = desk("minimum-versions", *words, "--out", desk.path("minimum-versions.json"))
    assert done.code == 2
    assert message in done.err
    assert not (desk.directory / "minimum-versions.json").exists()


def test_a_list_of_minimum_versions_is_no_manifest(desk: Desk) -> None:
    file = desk.path("minimum-versions.json")
    desk("minimum-versions", "--out", file)
    for words in (
        ("diff", file, desk.draft()),
        ("diff", desk.draft(), file),
        ("change", file, "version=2", "--out", desk.path("new.json")),
    ):
        refused(desk(*words), "not a manifest")


# Files


def test_a_file_that_cannot_be_written_is_named_as_such(desk: Desk) -> None:
    desk.key("ann")
    draft, nowhere = desk.draft(), desk.path("none/file")
    message = "the file cannot be written"
    refused(desk("minimum-versions", "--out", nowhere), message)
    done = desk("sign", draft, "--key", desk.path("ann.pem"), "--out", nowhere)
    assert done.err == f"{message}\n"
    assert desk("change", draft, "sandbox=true", "--out", str(desk.directory)).err == f"{message}\n"
    refused(
        desk("key", nowhere, "--name", "Ann", "--no-passphrase"),
        "the file of the key cannot be written",
    )


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("erase",),
        ("new",),
        ("key", "file"),
        ("sign", "file"),
        ("verify", "file"),
        ("minimum-versions",),
        ("change", "file", "a=1"),
    ],
    ids=str,
)
def test_a_command_without_what_it_needs_is_refused(desk: Desk, words: Sequence[str]) -> None:
    done = desk(*words)
    assert done.code == 2
    assert "usage: python -m hsm manifest" in done.err
