"""What a vault host has taken: never older, never changed by others, never half written."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread

import pytest

from hsm.errors import HsmError, ManifestRefused, VaultUnavailable
from hsm.manifest import model, store
from hsm.manifest.body import canonical_body
from hsm.manifest.host_files import HostFiles, Mac
from hsm.manifest.signed import MINIMUM_VERSIONS_TYPE
from hsm.manifest.store import Manifests
from hsm.pkcs11.keys import KeyLabel, KeyRole
from tests.bearers import identity_provider
from tests.contracts.software_token import SoftwareToken
from tests.operators import (
    OPERATORS,
    VALID_FROM,
    VALID_UNTIL,
    OperatorKey,
    manifest,
    minimum_versions,
    prepare_host,
    signed,
)

ISSUER_ID, OTHER_ISSUER_ID = "testbank01", "testbank02"
FILE, OTHER_FILE = (
    f"{issuer_id.encode().hex()}.json" for issuer_id in (ISSUER_ID, OTHER_ISSUER_ID)
)
LABEL = KeyLabel(KeyRole.MANIFEST_MAC, 1)
NOW = datetime(2026, 11, 23, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass
class Host:
    """A host: its directory, its trust file and its HSM token."""

    directory: Path
    hsm_token: SoftwareToken = field(default_factory=SoftwareToken)
    now: datetime = NOW

    def worker(self, mac: Mac | None = None, label: KeyLabel = LABEL) -> Manifests:
        """Start a worker, which knows nothing yet of what others have taken."""
        trust_file = self.directory.parent / "trust.json"
        files = HostFiles(self.directory, mac or self.hsm_token.mac)
        return Manifests(files, trust_file, lambda: label, lambda: self.now)

    def file(self, name: str = FILE) -> Path:
        return self.directory / name


@pytest.fixture
def bare(tmp_path: Path) -> Host:
    """A host without minimum versions."""
    prepare_host(tmp_path)
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    return Host(directory)


@pytest.fixture
def host(bare: Host) -> Host:
    bare.worker().begin(signed(minimum_versions({OTHER_ISSUER_ID: 5}), MINIMUM_VERSIONS_TYPE))
    return bare


def load(worker: Manifests, text: str) -> int:
    """Do what the vault does with a manifest that comes."""
    taken = worker.verified(text)
    worker.keep(text, taken)
    return taken.version


def take(host: Host, version: int = 1, issuer_id: str = ISSUER_ID, **members: object) -> int:
    return load(host.worker(), signed(manifest(issuer_id, version, **members)))


def refusal(call: Callable[..., object], *arguments: object, **members: object) -> str:
    with pytest.raises(ManifestRefused) as refused:
        call(*arguments, **members)
    return str(refused.value)


# What is taken


def test_what_is_taken_is_read_and_the_newest_counts(host: Host) -> None:
    worker = host.worker()
    assert worker.version(ISSUER_ID) == 0
    for version in (3, 4, 9):
        take(host, version)
        assert worker.version(ISSUER_ID) == worker.read(ISSUER_ID).version == version
    assert host.worker().read(ISSUER_ID) == worker.read(ISSUER_ID)
    assert worker.version(OTHER_ISSUER_ID) == 0
    assert refusal(worker.read, OTHER_ISSUER_ID) == ("this host has no manifest of the issuer")


def test_an_older_version_is_refused(host: Host) -> None:
    take(host, 3)
    for version in (1, 2):
        assert refusal(take, host, version) == "an older version than this host takes"
    assert host.worker().version(ISSUER_ID) == 3


def test_of_a_version_only_the_same_bytes_may_come_again(host: Host) -> None:
    take(host, 3)
    before = host.file().read_bytes()
    assert take(host, 3) == 3
    # Others signed the same bytes: that is nothing new, and the file is not written again.
    assert host.file().read_bytes() == before
    assert refusal(take, host, 3, policy={"length_max": 6}) == (
        "this host has another manifest of this version"
    )
    assert host.worker().read(ISSUER_ID).policy.length_max == 8


def test_a_manifest_is_taken_and_read_while_it_is_in_force_only(host: Host) -> None:
    text = "the manifest is not in force now"
    for moment in (VALID_FROM - SECOND, VALID_UNTIL):
        host.now = moment
        assert refusal(take, host) == text
    host.now = NOW
    take(host)
    worker = host.worker()
    for moment in (VALID_FROM - SECOND, VALID_UNTIL, VALID_UNTIL + SECOND):
        host.now = moment
        assert refusal(worker.read, ISSUER_ID) == text
        assert worker.version(ISSUER_ID) == 1
    for moment in (VALID_FROM, VALID_UNTIL - SECOND):
        host.now = moment
        assert worker.read(ISSUER_ID).version == 1


def changed_bytes() -> str:
    members = json.loads(signed(manifest(ISSUER_ID)))
    return json.dumps({**members, "payload": json.loads(signed(manifest(ISSUER_ID, 2)))["payload"]})


def not_canonical() -> Iterator[bytes]:
    body = json.loads(manifest(ISSUER_ID))
    yield json.dumps(body, indent=1).encode()
    yield json.dumps(body, sort_keys=True).encode()
    yield json.dumps(dict(reversed(body.items())), separators=(",", ":")).encode()
    yield manifest(ISSUER_ID) + b"\n"
    yield manifest(ISSUER_ID).replace(b'"testbank01"', b'"\\u0074estbank01"')
    yield manifest(ISSUER_ID).replace(b'"version":1', b'"version":1,"version":1')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (signed(manifest(ISSUER_ID), operators=OPERATORS[:1]), "too few signatures"),
        (signed(manifest(ISSUER_ID), operators=OPERATORS[:1] * 2), "too few signatures"),
        (
            signed(manifest(ISSUER_ID), operators=[OPERATORS[0], OperatorKey()]),
            "too few signatures",
        ),
        (signed(manifest(ISSUER_ID), MINIMUM_VERSIONS_TYPE), "too few signatures"),
        (changed_bytes(), "too few signatures"),
        (manifest(ISSUER_ID).decode(), "not a signed text"),
        ("", "not a signed text"),
        *((signed(payload), "not a signed text in canonical form") for payload in not_canonical()),
        (signed(b"[]"), "not a signed text"),
        (signed(b"{}"), "refused members: issuer_id"),
        (signed(minimum_versions({})), "refused members: issuer_id, minimum_versions, version"),
    ],
    ids=lambda text: text[:24],
)
def test_what_operators_did_not_sign_as_it_comes_is_refused(
    host: Host, text: str, message: str
) -> None:
    take(host, policy={"length_max": 6})
    assert message in refusal(load, host.worker(), text)
    assert host.worker().read(ISSUER_ID).policy.length_max == 6


def test_who_signed_is_judged_by_the_trust_file_of_the_moment(host: Host) -> None:
    worker = host.worker()
    take(host)
    prepare_host(host.directory.parent, [OPERATORS[0], OperatorKey()])
    text = signed(manifest(ISSUER_ID, 2))
    assert "too few signatures" in refusal(load, worker, text)
    # What was taken before stays in force.
    assert worker.read(ISSUER_ID).version == host.worker().read(ISSUER_ID).version == 1
    prepare_host(host.directory.parent)
    assert load(worker, text) == 2


@pytest.mark.parametrize(
    "issuer_id",
    ["", "testbank0", "testbank011", "../bank001", "\udcff" * 10, "\0" * 10, "x" * 5000],
    ids=lambda text: ascii(text)[:16],
)
def test_of_what_is_no_issuer_there_is_no_manifest(host: Host, issuer_id: str) -> None:
    take(host)
    assert host.worker().version(issuer_id) == 0
    assert "no manifest" in refusal(host.worker().read, issuer_id)


# Workers of a host


def test_a_worker_sees_what_another_one_takes(host: Host) -> None:
    one, other = host.worker(), host.worker()
    for version in range(1, 5):
        load(one, signed(manifest(ISSUER_ID, version)))
        assert other.read(ISSUER_ID).version == version
        one, other = other, one


def test_a_manifest_is_checked_once_by_each_worker(host: Host) -> None:
    take(host)
    checked = []

    def mac(label: KeyLabel, data: bytes) -> bytes:
        checked.append(label)
        return host.hsm_token.mac(label, data)

    worker = host.worker(mac)
    first = worker.read(ISSUER_ID)
    assert all(worker.read(ISSUER_ID) is first for _ in range(10))
    assert checked == [LABEL]
    take(host, 2)
    assert worker.read(ISSUER_ID).version == worker.read(ISSUER_ID).version == 2
    assert checked == [LABEL] * 2


@pytest.mark.parametrize(("second", "outcome"), [(2, "older"), (3, "another"), (4, "taken")])
def test_workers_that_take_one_at_once_take_one_after_the_other(
    host: Host, second: int, outcome: str
) -> None:
    take(host)
    inside, may_write, entered = Event(), Event(), Event()
    told: dict[str, str] = {}

    def slow(label: KeyLabel, data: bytes) -> bytes:
        inside.set()
        assert may_write.wait(60)
        return host.hsm_token.mac(label, data)

    def noticed(label: KeyLabel, data: bytes) -> bytes:
        entered.set()
        return host.hsm_token.mac(label, data)

    def run(who: str, worker: Manifests, text: str) -> None:
        try:
            load(worker, text)
        except HsmError as error:
            told[who] = str(error)
        else:
            told[who] = "taken"

    first = Thread(target=run, args=("first", host.worker(slow), signed(manifest(ISSUER_ID, 3))))
    first.start()
    assert inside.wait(60)
    text = signed(manifest(ISSUER_ID, second, policy={"length_max": 6}))
    other = Thread(target=run, args=("other", host.worker(noticed), text))
    other.start()
    assert not entered.wait(0.2)
    may_write.set()
    for thread in (first, other):
        thread.join(60)
    assert told["first"] == "taken"
    assert outcome in told["other"]
    assert host.worker().version(ISSUER_ID) == max(3, second)


# Files


class PowerCut(BaseException):
    """What no code of ours handles."""


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_crash_leaves_the_manifest_of_before(
    host: Host, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object) -> None:
        raise PowerCut

    take(host)
    with monkeypatch.context() as patch:
        patch.setattr(os if call == "fsync" else Path, call, cut)
        with pytest.raises(PowerCut):
            take(host, 2)
    assert host.worker().read(ISSUER_ID).version == 1
    # What it left lies in nobody's way.
    (left,) = host.directory.glob(".*.new")
    left.write_text("half of a fi")
    assert take(host, 2) == host.worker().read(ISSUER_ID).version == 2


def test_a_file_is_on_the_disk_before_it_takes_the_place_of_the_old_one(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(file: int) -> None:
        calls.append("directory" if Path(f"/proc/self/fd/{file}").is_dir() else "file")
        fsync(file)

    def noted_rename(path: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    take(host)
    assert calls == ["file", "rename", "directory"]


def test_a_full_disk_keeps_the_manifest_of_before(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    take(host)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert refusal(take, host, 2) == "HSM_STATE_DIRECTORY cannot be read or written"
    assert host.worker().read(ISSUER_ID).version == 1


def test_a_directory_that_is_not_there_holds_nothing_and_takes_nothing(bare: Host) -> None:
    bare.directory.rmdir()
    assert bare.worker().version(ISSUER_ID) == 0
    assert "no manifest" in refusal(bare.worker().read, ISSUER_ID)
    message = "HSM_STATE_DIRECTORY cannot be read or written"
    assert refusal(take, bare) == message
    assert (
        refusal(bare.worker().begin, signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE)) == message
    )
    bare.directory.write_text("a file")
    assert refusal(bare.worker().version, ISSUER_ID) == message
    assert refusal(take, bare) == message


def test_only_the_user_of_the_vault_reads_its_files(host: Host) -> None:
    take(host)
    for file in host.directory.glob("*.json"):
        assert file.stat().st_mode & 0o777 == 0o600


def test_where_anybody_may_write_nothing_is_taken(bare: Host) -> None:
    bare.directory.chmod(0o777)
    begin = signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE)
    text = "anybody may write in HSM_STATE_DIRECTORY"
    assert refusal(bare.worker().begin, begin) == text
    bare.directory.chmod(0o770)
    bare.worker().begin(begin)
    bare.directory.chmod(0o772)
    assert refusal(take, bare) == text


def edits() -> Iterator[tuple[str, Callable[[dict[str, str]], object]]]:
    def with_member(name: str, value: object) -> Callable[[dict[str, str]], object]:
        return lambda members: {**members, name: value}

    def without(name: str) -> Callable[[dict[str, str]], object]:
        return lambda members: {key: value for key, value in members.items() if key != name}

    yield "another JWS", with_member("jws", signed(manifest(ISSUER_ID, 9)))
    yield "a space in the JWS", lambda members: {**members, "jws": members["jws"] + " "}
    yield "no CMAC", with_member("cmac", "")
    yield "a CMAC of zeros", with_member("cmac", "00" * 16)
    yield "half of the CMAC", lambda members: {**members, "cmac": members["cmac"][:16]}
    yield "a CMAC that is none", with_member("cmac", "x" * 32)
    yield "a CMAC that is a number", with_member("cmac", 0)
    yield "another role", with_member("key_label", "pin-mac.g1")
    yield "a label that is none", with_member("key_label", "manifest-mac")
    yield "another generation", with_member("key_label", "manifest-mac.g2")
    for name in ("jws", "key_label", "cmac"):
        yield f"without {name}", without(name)
    yield "a list", lambda members: [members]


@pytest.mark.parametrize("edit", [pytest.param(edit, id=name) for name, edit in edits()])
@pytest.mark.parametrize("name", [FILE, "minimum-versions.json"])
def test_an_edited_file_is_refused(
    host: Host, name: str, edit: Callable[[dict[str, str]], object]
) -> None:
    take(host)
    host.hsm_token.generate(KeyLabel(KeyRole.MANIFEST_MAC, 2))
    worker = host.worker()
    assert worker.read(ISSUER_ID).version == 1
    before = host.file(name).read_bytes()
    host.file(name).write_text(json.dumps(edit(json.loads(before))))
    refuses_file(host, worker, name)
    host.file(name).write_bytes(before)
    assert take(host, 2) == worker.read(ISSUER_ID).version == 2


@pytest.mark.parametrize("content", [b"", b"\xff", b"null", b'{"jws":', b"[" * 100_000], ids=str)
def test_a_file_that_is_not_json_is_refused(host: Host, content: bytes) -> None:
    take(host)
    host.file().write_bytes(content)
    refuses_file(host, host.worker(), FILE)


def refuses_file(host: Host, worker: Manifests, name: str) -> None:
    message = "a file of this host was changed by others"
    if name == FILE:
        for one in (worker, host.worker()):
            assert refusal(one.read, ISSUER_ID) == message
            assert refusal(one.version, ISSUER_ID) == message
    assert refusal(take, host, 2) == message


def test_a_file_is_of_one_issuer_and_of_one_thing_only(host: Host) -> None:
    take(host)
    take(host, 5, OTHER_ISSUER_ID)
    message = "a file of this host was changed by others"
    for source, target in ((OTHER_FILE, FILE), (FILE, OTHER_FILE), ("minimum-versions.json", FILE)):
        before = host.file(target).read_bytes()
        host.file(target).write_bytes(host.file(source).read_bytes())
        issuer_id = ISSUER_ID if target == FILE else OTHER_ISSUER_ID
        assert refusal(host.worker().read, issuer_id) == message
        host.file(target).write_bytes(before)
    host.file("minimum-versions.json").write_bytes(host.file().read_bytes())
    assert refusal(take, host, 2) == message


def test_a_file_of_another_hsm_is_refused(host: Host) -> None:
    take(host)
    moved = replace(host, hsm_token=SoftwareToken())
    message = "a file of this host was changed by others"
    assert refusal(moved.worker().read, ISSUER_ID) == message
    assert refusal(take, moved, 2) == message
    # Its minimum versions are of the other HSM too.
    moved.file().unlink()
    assert refusal(take, moved, 2) == message


def test_a_file_that_is_removed_leaves_the_minimum_versions(host: Host) -> None:
    take(host, 7, OTHER_ISSUER_ID)
    worker = host.worker()
    assert worker.version(OTHER_ISSUER_ID) == 7
    host.file(OTHER_FILE).unlink()
    assert worker.version(OTHER_ISSUER_ID) == 0
    assert "no manifest" in refusal(worker.read, OTHER_ISSUER_ID)
    assert "older version" in refusal(take, host, 4, OTHER_ISSUER_ID)
    assert take(host, 5, OTHER_ISSUER_ID) == 5


def test_a_manifest_that_this_program_refuses_is_replaced_by_a_newer_one(host: Host) -> None:
    body = {**json.loads(manifest(ISSUER_ID, 6)), "of_another_version_of_this_program": True}
    host.worker().files.write(FILE.removesuffix(".json"), signed(canonical_body(body)), LABEL)
    worker = host.worker()
    assert worker.version(ISSUER_ID) == 6
    assert "of_another_version" in refusal(worker.read, ISSUER_ID)
    assert "older version" in refusal(take, host, 5)
    assert "another manifest" in refusal(take, host, 6)
    assert take(host, 7) == worker.read(ISSUER_ID).version == 7


# Keys


def test_the_cmac_covers_what_the_file_is_its_key_label_and_the_hash_of_the_jws(
    host: Host,
) -> None:
    macs = []

    def mac(label: KeyLabel, data: bytes) -> bytes:
        macs.append((str(label), data))
        return host.hsm_token.mac(label, data)

    text = signed(manifest(ISSUER_ID))
    load(host.worker(mac), text)
    digest = hashlib.sha256(text.encode()).digest()
    # These bytes stand behind files that are there already: none of them may move.
    assert macs[-1] == (
        "manifest-mac.g1",
        b"\0\0\0\x08manifest\0\0\0\x14"
        + ISSUER_ID.encode().hex().encode()
        + b"\0\0\0\x0fmanifest-mac.g1\0\0\0\x20"
        + digest,
    )


def test_no_other_key_makes_the_cmac_of_a_file(host: Host) -> None:
    other = KeyLabel(KeyRole.PIN_MAC, 1)
    load(host.worker(label=other), signed(manifest(ISSUER_ID)))
    message = "a file of this host was changed by others"
    assert refusal(host.worker(label=other).read, ISSUER_ID) == message


def test_a_file_is_under_the_key_of_the_moment_and_older_ones_are_read(host: Host) -> None:
    take(host)
    second = KeyLabel(KeyRole.MANIFEST_MAC, 2)
    host.hsm_token.generate(second)
    worker = host.worker(label=second)
    assert worker.read(ISSUER_ID).version == 1
    load(worker, signed(manifest(ISSUER_ID, 2)))
    assert json.loads(host.file().read_text())["key_label"] == "manifest-mac.g2"
    assert host.worker().read(ISSUER_ID).version == 2


def test_a_key_that_is_gone_makes_the_vault_unavailable(host: Host) -> None:
    take(host)
    del host.hsm_token.secrets[LABEL]
    worker = host.worker()
    for call in (
        lambda: worker.read(ISSUER_ID),
        lambda: worker.version(ISSUER_ID),
        lambda: take(host, 2),
    ):
        with pytest.raises(VaultUnavailable):
            call()


def test_a_manifest_may_be_larger_than_what_a_device_takes_at_once(host: Host) -> None:
    sizes = []

    def mac(label: KeyLabel, data: bytes) -> bytes:
        sizes.append(len(data))
        return host.hsm_token.mac(label, data)

    apps = [{"kind": "app", "client_id": f"{ISSUER_ID}-{number}"} for number in range(500)]
    load(host.worker(mac), signed(manifest(ISSUER_ID, clients=apps)))
    assert len(host.worker(mac).read(ISSUER_ID).clients) == 500
    assert max(sizes) < 256


# Minimum versions


def test_a_host_without_minimum_versions_takes_no_manifest(bare: Host) -> None:
    assert refusal(take, bare) == "this host has no minimum versions: load a list of them first"
    assert bare.worker().version(ISSUER_ID) == 0
    bare.worker().begin(signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE))
    assert take(bare) == 1


def test_minimum_versions_that_are_removed_stop_what_comes_and_not_what_is_there(
    host: Host,
) -> None:
    take(host)
    host.file("minimum-versions.json").unlink()
    assert "no minimum versions" in refusal(take, host, 2)
    assert host.worker().read(ISSUER_ID).version == 1


def test_nothing_below_a_minimum_version_is_taken(host: Host) -> None:
    for version in (1, 4):
        assert "older version" in refusal(take, host, version, OTHER_ISSUER_ID)
    assert take(host, 5, OTHER_ISSUER_ID) == 5
    # Who is not listed may begin with any version.
    assert take(host, 1) == 1


def test_a_host_begins_once(host: Host) -> None:
    assert refusal(host.worker().begin, signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE)) == (
        "this host has minimum versions already"
    )
    assert "older version" in refusal(take, host, 4, OTHER_ISSUER_ID)


def test_minimum_versions_are_for_new_hosts_of_their_days(bare: Host) -> None:
    text = signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE)
    for moment in (VALID_FROM - SECOND, VALID_UNTIL):
        bare.now = moment
        assert refusal(bare.worker().begin, text) == "the list of minimum versions is not good now"
    bare.now = NOW
    bare.worker().begin(text)
    # Those of a host go on when the list has ended.
    bare.now = VALID_UNTIL + SECOND
    assert take(bare, valid_until="2060-01-01T00:00:00Z") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (minimum_versions({}).decode(), "not a signed text"),
        (signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE, ()), "too few signatures"),
        (signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE, OPERATORS[:1]), "too few signatures"),
        (
            signed(minimum_versions({}), MINIMUM_VERSIONS_TYPE, OPERATORS[:1] * 2),
            "too few signatures",
        ),
        (signed(minimum_versions({})), "too few signatures"),
        (
            signed(minimum_versions({}).replace(b":", b": "), MINIMUM_VERSIONS_TYPE),
            "not a signed text",
        ),
        (signed(manifest(ISSUER_ID), MINIMUM_VERSIONS_TYPE), "refused members: "),
    ],
    ids=lambda text: text[:24],
)
def test_what_operators_did_not_sign_as_minimum_versions_is_refused(
    bare: Host, text: str, message: str
) -> None:
    assert message in refusal(bare.worker().begin, text)
    assert "no minimum versions" in refusal(take, bare)


def test_an_operator_of_one_issuer_signs_no_minimum_versions(bare: Host) -> None:
    file = bare.directory.parent / "trust.json"
    trust = json.loads(file.read_text())
    trust["operators"][1]["issuers"] = [ISSUER_ID]
    file.write_text(json.dumps(trust))
    text = signed(minimum_versions({ISSUER_ID: 1}), MINIMUM_VERSIONS_TYPE)
    assert "too few signatures" in refusal(bare.worker().begin, text)


# Identity providers


def naming(issuer_id: str, version: int = 5, audience_of: str = ISSUER_ID) -> str:
    """A manifest that names an identity provider."""
    provider = identity_provider(audience_of)
    return signed(manifest(issuer_id, version, identity_provider=provider))


def test_an_identity_provider_and_audience_are_of_one_issuer(host: Host) -> None:
    load(host.worker(), naming(ISSUER_ID))
    for worker in (host.worker(), host.worker()):
        with pytest.raises(ManifestRefused, match="another issuer has this identity provider"):
            load(worker, naming(OTHER_ISSUER_ID))
        assert worker.version(OTHER_ISSUER_ID) == 0
    assert load(host.worker(), naming(OTHER_ISSUER_ID, audience_of=OTHER_ISSUER_ID)) == 5
    assert load(host.worker(), naming(ISSUER_ID, version=6)) == 6
    load(host.worker(), signed(manifest(ISSUER_ID, 7)))
    assert load(host.worker(), naming(OTHER_ISSUER_ID, version=6)) == 6


def test_another_issuers_manifest_that_cannot_be_read_stands_in_nobodys_way(host: Host) -> None:
    load(host.worker(), naming(ISSUER_ID))
    host.file().write_text("{}")
    host.file("no-issuer.json").write_text("{}")
    assert load(host.worker(), naming(OTHER_ISSUER_ID)) == 5


# Many issuers

ISSUERS = [f"testbank{number:02}" for number in range(10, 15)]


class Parses(list[str]):
    """Whose manifests a worker parsed since this was asked last."""

    def taken(self) -> list[str]:
        taken = [*self]
        self.clear()
        return taken


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Parses:
    """Let a worker hold three manifests."""
    parses, parse = Parses(), model.parse

    def counted(payload: bytes) -> model.Manifest:
        read = parse(payload)
        parses.append(read.issuer_id)
        return read

    monkeypatch.setattr(store, "PARSED_MAX", 3)
    monkeypatch.setattr(model, "parse", counted)
    return parses


@pytest.fixture
def busy(host: Host) -> Host:
    """A host of five issuers, each with an identity provider."""
    for issuer_id in ISSUERS:
        load(host.worker(), naming(issuer_id, 1, issuer_id))
    return host


def test_a_manifest_that_is_in_use_is_parsed_once(busy: Host, parses: Parses) -> None:
    worker = busy.worker()
    for _ in range(3):
        for issuer_id in ISSUERS[:3]:
            assert worker.read(issuer_id).issuer_id == issuer_id
    assert parses.taken() == ISSUERS[:3]


def test_a_worker_holds_the_manifests_that_were_used_last(busy: Host, parses: Parses) -> None:
    worker = busy.worker()
    for issuer_id in (*ISSUERS[:3], ISSUERS[0], *ISSUERS[3:]):
        worker.read(issuer_id)
    assert parses.taken() == ISSUERS
    assert len(worker._parsed) == 3
    for issuer_id in (ISSUERS[0], *ISSUERS[3:]):
        worker.read(issuer_id)
    assert parses.taken() == []
    worker.read(ISSUERS[1])
    assert parses.taken() == [ISSUERS[1]]


def test_a_version_that_another_worker_took_is_noticed_held_or_not(
    busy: Host, parses: Parses
) -> None:
    worker = busy.worker()
    for issuer_id in ISSUERS:
        worker.read(issuer_id)
    for issuer_id in ISSUERS:
        load(busy.worker(), naming(issuer_id, 2, issuer_id))
    parses.clear()
    for issuer_id in ISSUERS:
        assert worker.read(issuer_id).version == worker.version(issuer_id) == 2
        assert refusal(load, worker, naming(issuer_id, 1, issuer_id)) == (
            "an older version than this host takes"
        )
    busy.file(f"{ISSUERS[0].encode().hex()}.json").unlink()
    assert refusal(worker.read, ISSUERS[0]) == "this host has no manifest of the issuer"


def test_a_manifest_that_comes_has_the_others_read_once_and_takes_no_place(
    busy: Host, parses: Parses
) -> None:
    worker = busy.worker()
    for issuer_id in ISSUERS[:3]:
        worker.read(issuer_id)
    parses.clear()
    load(worker, naming(ISSUER_ID, 1))
    assert sorted(parses.taken()) == sorted([ISSUER_ID, *ISSUERS[3:]])
    load(worker, naming(ISSUER_ID, 2))
    # What comes, and of what is there the one that was replaced.
    assert parses.taken() == [ISSUER_ID] * 2
    for issuer_id in ISSUERS[1:3]:
        worker.read(issuer_id)
    assert parses.taken() == []


def test_the_identity_provider_of_each_issuer_is_the_one_of_its_newest_manifest(
    busy: Host, parses: Parses
) -> None:
    worker = busy.worker()
    taken = "another issuer has this identity provider and audience"
    for issuer_id in ISSUERS:
        assert refusal(load, worker, naming(ISSUER_ID, 1, issuer_id)) == taken
    load(busy.worker(), naming(ISSUERS[0], 2, OTHER_ISSUER_ID))
    assert refusal(load, worker, naming(ISSUER_ID, 1, OTHER_ISSUER_ID)) == taken
    assert load(worker, naming(ISSUER_ID, 1, ISSUERS[0])) == 1
    assert len(worker._parsed) <= 3
