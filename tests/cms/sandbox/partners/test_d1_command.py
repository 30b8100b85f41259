"""D1 by hand."""

import getpass
import io
import sys
from pathlib import Path

import httpx
import pytest

from cms.sandbox.partners import d1, d1_command
from tests.cms.sandbox.issuer import CARD_ID, Issuer


@pytest.mark.usefixtures("_stubbed")
def test_commands(
    sandbox: Path,
    issuer: Issuer,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("7392\n"))
    common = [CARD_ID, "--sandbox", str(sandbox)]

    for command in ("activate", "set-pin", "get-pin", "counter"):
        assert d1_command.main([command, *common]) == 0

    assert capsys.readouterr().out == "7392\n1\n"
    assert d1_command.main(["counter", "card-2", *common[1:], "--issuer", "digibank02"]) == 0
    assert "/issuers/digibank02/cards/card-2/" in issuer.requests[-1].url.path


@pytest.mark.usefixtures("_stubbed")
@pytest.mark.parametrize(("again", "code"), [("7392", 0), ("7393", 1)])
def test_pin_is_asked_twice_at_a_terminal(
    sandbox: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, again: str, code: int
) -> None:
    entries = iter(["7392", again])
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(getpass, "getpass", lambda _: next(entries))

    assert d1_command.main(["set-pin", CARD_ID, "--sandbox", str(sandbox)]) == code
    assert issuer.counter == 1 - code


@pytest.mark.usefixtures("_stubbed")
@pytest.mark.parametrize(
    ("arguments", "typed", "line"),
    [
        (["counter", "card-9"], "", "d1: no such card in the sandbox\n"),
        (["counter", "card-2"], "", "d1: no such card in the sandbox\n"),
        (["counter", CARD_ID, "--issuer", "none"], "", "d1: no such issuer in the sandbox\n"),
        (["set-pin", CARD_ID], "12a4\n", "d1: a PIN is 4 to 12 digits\n"),
        (["set-pin", CARD_ID], "1111\n", "d1: 403 PIN_CHANGE_FORBIDDEN\n"),
    ],
)
def test_failed_command_says_one_line(
    sandbox: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    arguments: list[str],
    typed: str,
    line: str,
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(typed))

    assert d1_command.main([*arguments, "--sandbox", str(sandbox)]) == 1
    assert capsys.readouterr() == ("", line)


def test_no_sandbox_and_no_service_say_one_line(
    sandbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    assert d1_command.main(["counter", CARD_ID, "--sandbox", "nowhere.json"]) == 1
    # The client certificate is missing.
    assert d1_command.main(["counter", CARD_ID, "--sandbox", str(sandbox)]) == 1
    monkeypatch.setattr(d1, "_tls", lambda _: True)
    monkeypatch.setattr(httpx, "HTTPTransport", lambda **_: httpx.MockTransport(refuse))
    assert d1_command.main(["counter", CARD_ID, "--sandbox", str(sandbox)]) == 1

    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert lines[2] == "d1: connection refused"
