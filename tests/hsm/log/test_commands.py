"""``python -m hsm log verify``: what whoever looks after a vault is told of its log."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from hsm.__main__ import main
from hsm.log.host_log import HostLog
from hsm.pkcs11.token import Pkcs11Token
from hsm.vault import Vault
from tests.hsm.log.vault_host import VaultHost, edit, hand_out
from tests.operators import open_vault

Answer = tuple[int, str, str]
Verify = Callable[..., Answer]
DAY = timedelta(days=1)


@pytest.fixture
def filled(host: VaultHost) -> VaultHost:
    """A chain of three days, a line each."""
    for number in range(2):
        host.now += DAY
        host.worker().append(hand_out(number), durable=False)
    return host


@pytest.fixture
def verify(
    filled: VaultHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Verify:
    """Run the command over the HSM token of that host."""
    for name in ("MODULE", "TOKEN_LABEL", "PIN_FILE", "TRUST_FILE"):
        monkeypatch.setenv(f"HSM_{name}", "any")
    monkeypatch.setenv("HSM_STATE_DIRECTORY", str(filled.directory.parent))
    monkeypatch.setattr(Pkcs11Token, "open", lambda _: filled.hsm_token)

    def run(*words: object) -> Answer:
        code = main(["log", "verify", *map(str, words)])
        return (code, *capsys.readouterr())

    return run


def said_of(host: VaultHost, **ends: int) -> str:
    """What is said of chains that are as they were written."""
    listed = f"{host.directory / 'chains.jsonl'}: lines 1 to {1 + len(ends)}"
    chains = [f"{host.directory / name[1:]}: lines 1 to {end}" for name, end in ends.items()]
    return "".join(f"{each} are as the vault wrote them\n" for each in (listed, *chains))


MORE = "whether there were more after these, only a later receipt can tell\n"


def test_a_log_as_it_was_written_is_one(filled: VaultHost, verify: Verify) -> None:
    assert verify() == (0, said_of(filled, _0=3) + MORE, "")
    first, second = filled.worker(), filled.worker()
    for worker in (first, second):
        worker.append(hand_out(9), durable=False)
    assert verify() == (0, said_of(filled, _0=4, _1=2) + MORE, "")


def test_a_copy_of_a_log_is_one(filled: VaultHost, verify: Verify, tmp_path: Path) -> None:
    copy = VaultHost(tmp_path / "copy")
    shutil.copytree(filled.directory, copy.directory)
    filled.worker().append(hand_out(9), durable=False)
    assert verify(copy.directory) == (0, said_of(copy, _0=3) + MORE, "")


def test_the_first_line_at_fault_of_each_chain_is_named_and_the_exit_code_is_1(
    filled: VaultHost, verify: Verify
) -> None:
    first, second = filled.worker(), filled.worker()
    for number in range(2):
        first.append(hand_out(number), durable=False)
        second.append(hand_out(number), durable=False)
    path, other = filled.paths()[1], filled.paths(1)[0]
    filled.edit(lambda lines: [lines[0].replace(b"card-0", b"card-7")], number=1)
    edit(other, lambda lines: [lines[0], *lines[2:]])
    code, said, _ = verify()
    assert code == 1
    assert said.startswith(f"{path}:1: its MAC is wrong\n{other}:2: lines before it are missing\n")
    assert "no line" not in said
    assert MORE not in said


def test_a_chain_that_is_missing_is_named(filled: VaultHost, verify: Verify) -> None:
    shutil.rmtree(filled.directory / "0")
    code, said, _ = verify()
    assert code == 1
    assert said.startswith(f"{filled.directory / '0'}: this chain is missing\n")


def test_half_a_line_is_told_and_no_fault(filled: VaultHost, verify: Verify) -> None:
    path = filled.paths()[-1]
    with path.open("ab") as file:
        file.write(b'{"seq":4,"at"')
    filled.worker().append(hand_out(9), durable=False)
    torn = f"{path}:2: not whole, as when a process ends while it writes\n"
    assert verify() == (0, torn + said_of(filled, _0=4) + MORE, "")


def test_a_later_receipt_tells_that_the_end_was_cut_off(filled: VaultHost, verify: Verify) -> None:
    receipts = filled.receipts()
    assert verify("--receipt", *receipts) == verify()
    filled.paths()[-1].unlink()
    assert verify()[0] == 0
    missing = f"{receipts[2]}: no line has this receipt\n"
    assert verify("--receipt", *receipts) == (1, said_of(filled, _0=2) + missing, "")


def test_a_receipt_is_found_in_whichever_chain_it_is(filled: VaultHost, verify: Verify) -> None:
    """Each of them has a line of this number; it is the MAC that tells which is meant."""
    first, second = filled.worker(), filled.worker()
    for worker in (first, second):
        worker.append(hand_out(9), durable=False)
    here, there = filled.receipts()[1], filled.receipts(1)[1]
    assert here != there
    assert verify("--receipt", here, there)[0] == 0
    shutil.rmtree(filled.directory / "1")
    edit(filled.directory / "chains.jsonl", lambda lines: lines[:-1])
    assert verify("--receipt", here)[0] == 0
    # The end of the list was cut off with the chain: as at the end of any chain, this alone tells.
    code, said, _ = verify("--receipt", there)
    assert (code, said.splitlines()[-1]) == (1, f"{there}: no line has this receipt")


def test_a_receipt_that_the_vault_did_not_give_is_told(filled: VaultHost, verify: Verify) -> None:
    forged = f"2.{'0' * 32}"
    code, said, _ = verify("--receipt", forged)
    assert code == 1
    assert said.endswith(f"{forged}: no line has this receipt\n")


@pytest.mark.parametrize("word", ["", "2", "2.", "0." + "0" * 32, "2." + "g" * 32, "x" * 400])
def test_what_is_no_receipt_is_no_argument(verify: Verify, word: str) -> None:
    with pytest.raises(SystemExit) as usage:
        verify("--receipt", word)
    assert usage.value.code == 2


def test_a_host_without_a_log_is_refused(filled: VaultHost, verify: Verify) -> None:
    shutil.rmtree(filled.directory)
    assert verify() == (
        2,
        "",
        "this host has no log: it begins with a list of minimum versions, see docs/operating.md\n",
    )
    code, said, why = verify(filled.directory)
    assert (code, said) == (2, "")
    assert why.endswith("No such file or directory\n")


def test_a_vault_begins_its_log_with_its_minimum_versions(
    hsm_token: Pkcs11Token, tmp_path: Path
) -> None:
    vault = open_vault(hsm_token, tmp_path)
    assert isinstance(vault, Vault)
    host_log = HostLog(tmp_path / "log", hsm_token.mac)
    assert [line.event.what for line in host_log.lines()] == ["log.began"]
    vault.health()
    assert [line.event.what for line in host_log.lines()] == ["log.began", *["log.chain"] * 2]
    assert host_log.faults == []
