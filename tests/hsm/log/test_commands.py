"""``python -m hsm log verify``: what whoever looks after a vault is told of its log."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from hsm.__main__ import main
from hsm.pkcs11.token import Pkcs11Token
from hsm.vault import Vault
from tests.hsm.log.vault_host import VaultHost, hand_out
from tests.operators import open_vault

Answer = tuple[int, str, str]
Verify = Callable[..., Answer]
DAY = timedelta(days=1)


@pytest.fixture
def filled(host: VaultHost) -> VaultHost:
    """Three days, a line each."""
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


def test_a_log_as_it_was_written_is_one(filled: VaultHost, verify: Verify) -> None:
    said = (
        "lines 1 to 3 are as the vault wrote them\n"
        "whether there were more after line 3, only a later receipt can tell\n"
    )
    assert verify() == (0, said, "")
    # Whatever order a shell gives them in.
    assert verify(*reversed(filled.paths())) == (0, said, "")


def test_the_first_line_at_fault_is_named_and_the_exit_code_is_1(
    filled: VaultHost, verify: Verify
) -> None:
    paths = filled.paths()
    filled.edit(lambda lines: [lines[0].replace(b"card-0", b"card-7")], number=1)
    assert verify() == (1, f"{paths[1]}:1: its MAC is wrong\n", "")
    assert verify(paths[2]) == (1, f"{paths[2]}:1: lines before it are missing\n", "")


def test_half_a_line_is_told_and_no_fault(filled: VaultHost, verify: Verify) -> None:
    path = filled.paths()[-1]
    with path.open("ab") as file:
        file.write(b'{"seq":4,"at"')
    filled.worker().append(hand_out(9), durable=False)
    code, said, _ = verify()
    assert code == 0
    assert said.startswith(f"{path}:2: not whole, as when a process ends while it writes\n")
    assert "lines 1 to 4 are" in said


def test_a_later_receipt_tells_that_the_end_was_cut_off(filled: VaultHost, verify: Verify) -> None:
    receipts = filled.receipts()
    code, said, _ = verify("--receipt", *receipts)
    assert (code, said) == (0, verify()[1])
    filled.paths()[-1].unlink()
    assert verify()[0] == 0
    assert verify("--receipt", *receipts) == (
        1,
        f"lines 1 to 2 are as the vault wrote them\n{receipts[2]}: cut off at the end\n",
        "",
    )


def test_a_receipt_that_the_vault_did_not_give_is_told(filled: VaultHost, verify: Verify) -> None:
    forged = f"2.{'0' * 32}"
    code, said, _ = verify("--receipt", forged)
    assert code == 1
    assert said.endswith(f"{forged}: not of this log\n")


@pytest.mark.parametrize("word", ["", "2", "2.", "0." + "0" * 32, "2." + "g" * 32, "x" * 400])
def test_what_is_no_receipt_is_no_argument(verify: Verify, word: str) -> None:
    with pytest.raises(SystemExit) as usage:
        verify("--receipt", word)
    assert usage.value.code == 2


def test_a_host_without_a_log_is_refused(filled: VaultHost, verify: Verify) -> None:
    for path in filled.paths():
        path.unlink()
    assert verify() == (2, "", "this host has no log: it begins with a list of floors\n")
    code, said, why = verify(filled.directory / "none.jsonl")
    assert (code, said) == (2, "")
    assert why.endswith("No such file or directory\n")


def test_a_vault_begins_its_log_with_its_floors(hsm_token: Pkcs11Token, tmp_path: Path) -> None:
    vault = open_vault(hsm_token, tmp_path)
    assert isinstance(vault, Vault)
    vault.health()
    host = VaultHost(tmp_path / "log")
    lines, _ = host.follow(hsm_token.mac)
    assert [line.event.what for line in lines] == ["log.began"]
