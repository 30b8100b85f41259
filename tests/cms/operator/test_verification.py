"""``python -m cms verification export``, and what lists show of cards with values."""

import errno
import json
import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import psec
import pytest

from cms.operator import value_export, verification
from cms.sandbox.partners.jwe import decrypt
from hsm.errors import KeyNotInUse
from hsm.pkcs11.keys import KeyRole
from hsm.port import CardRef, HandOut, PinBlockType
from tests.cms.operator.operator_at_work import Operator
from tests.cms.services.d1.pin_service import PinService, envelope
from tests.crypto.oracles import takes_tdes_the_old_way
from tests.feeds import described
from tests.issuer_records import change_manifest, run_sql
from tests.seccos_issuer import (
    PVV_AND_OFFSET,
    TABLE,
    TDES_KEYS,
    SeccosIssuer,
    Watched,
    open_girobank,
    watched_vault,
)

pytestmark = [pytest.mark.anyio, takes_tdes_the_old_way]

PINS: Mapping[str, str] = {"card-1": "407193", "card-2": "938261"}
OWN_PRW = {"prw_source": "issuer"}


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Watched:
    """One that has shared keys, in place of the session's."""
    return watched_vault(tmp_path_factory.mktemp("vault"))


@pytest.fixture
async def giro(database_url: str, vault: Watched) -> SeccosIssuer:
    """An issuer with every value of ``card-1``, set as ISO-0, and of ``card-2``, as SECCOS."""
    asked = {**PVV_AND_OFFSET, "prw": True}
    giro = open_girobank(database_url, vault, profile=OWN_PRW, verification=asked)
    async with PinService.over(giro.sample_issuer, database_url, vault) as pin_service:
        await pin_service.put(giro.sample_issuer.pin_jwe(PINS["card-1"]))
        text = giro.seccos(PINS["card-2"], 0, "card-2")
        sent = envelope(text, PinBlockType.SECCOS)
        await pin_service.pins.set_pin(giro.sample_issuer.card("card-2"), sent, pin_service.actor)
    return giro


def exported(giro: SeccosIssuer, out: str) -> dict[str, dict[str, object]]:
    """Open an export as the authorisation host does."""
    found = {}
    for text in out.splitlines():
        line = json.loads(text)
        values = decrypt(line.pop("jwe"), giro.host_key)
        assert line == {name: values.pop(name) for name in ("issuerId", "cardId", "counter")}
        found[line["cardId"]] = values
    return found


def audited(url: str) -> list[tuple[object, ...]]:
    return run_sql(
        url,
        "SELECT card_id, actor, counter FROM audit_events WHERE event = 'verification.export'"
        " ORDER BY event_id",
    )


async def test_the_authorisation_host_gets_the_values_of_every_card_and_nobody_else_does(
    operator: Operator, giro: SeccosIssuer, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        out = operator.must("verification", "export", giro.sample_issuer.issuer_id)
    assert [sorted(json.loads(line)) for line in out.splitlines()] == [
        ["cardId", "counter", "issuerId", "jwe"]
    ] * 2
    values = exported(giro, out)
    for card_id, pin in PINS.items():
        pan, found = giro.sample_issuer.pans[card_id], values[card_id]
        pvv = psec.pin.generate_visa_pvv(TDES_KEYS[KeyRole.PVK], "1", pin[:4], pan)
        offset = psec.pin.generate_ibm3624_offset(
            TDES_KEYS[KeyRole.PVK_3624], TABLE, pin, pan, 0, 16, "F"
        )
        assert found["pvv"] == {"pvv": pvv, "keyIndex": 1, "keyGeneration": 1}
        assert found["offset-3624"] == {"offset": offset, "keyGeneration": 1}
    assert values["card-1"].keys() == {"pvv", "offset-3624", "prw"}
    assert values["card-2"].keys() == {"pvv", "offset-3624", "prw", "script"}
    assert audited(database_url) == [("card-1", "operator", 1), ("card-2", "operator", 1)]
    told = "".join((*operator.seen, caplog.text))
    for value in re.findall(r"[0-9A-F]{6,}", json.dumps(values)):
        assert value not in told


async def test_the_host_is_told_that_values_were_cleared_too(
    operator: Operator, giro: SeccosIssuer, database_url: str
) -> None:
    run_sql(
        database_url,
        "UPDATE cards SET sealed_pvv = NULL, sealed_offset_3624 = NULL, sealed_prw = NULL,"
        " sealed_script = NULL WHERE card_id = 'card-1'",
    )
    values = exported(giro, operator.must("verification", "export", giro.sample_issuer.issuer_id))
    assert values["card-1"] == {}
    assert values.keys() == {"card-1", "card-2"}


async def test_only_cards_that_changed_since_then_are_exported(
    operator: Operator, giro: SeccosIssuer, database_url: str
) -> None:
    export = ("verification", "export", giro.sample_issuer.issuer_id, "--since")
    moment = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
    run_sql(database_url, "UPDATE cards SET pin_changed_at = %s WHERE card_id = 'card-1'", moment)
    for since, cards in (
        ("2026-01-31T13:00:00+01:00", {"card-1", "card-2"}),
        ("2026-01-31T12:00:00.000001+00:00", {"card-2"}),
        ("2126-01-31T12:00:00Z", set()),
    ):
        assert exported(giro, operator.must(*export, since)).keys() == cards
    for text in ("yesterday", "2026-01-31T12:00:00", ""):
        refusal = operator.refused(*export, text)
        assert refusal == "a time is written as 2026-01-31T12:00:00+01:00"


async def test_more_cards_than_are_read_at_once_are_exported_each_once(
    operator: Operator, giro: SeccosIssuer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(value_export, "CARDS_AT_ONCE", 1)
    out = operator.must("verification", "export", giro.sample_issuer.issuer_id)
    assert exported(giro, out).keys() == {"card-1", "card-2"}
    assert len(out.splitlines()) == len(audited(database_url)) == 2


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ("sealed_pvv = set_byte(sealed_pvv, 100, 0)", "The sealed value was not sealed for"),
        ("sealed_pvv = sealed_prw", "The sealed value was not sealed for"),
        ("counter = 0", "its counter is not the newest of its history"),
        ("counter = 2", "its counter is not the newest of its history"),
    ],
)
async def test_a_card_whose_values_are_not_as_they_were_stored_is_named_and_left_out(
    operator: Operator, giro: SeccosIssuer, database_url: str, edit: str, complaint: str
) -> None:
    run_sql(database_url, f"UPDATE cards SET {edit} WHERE card_id = 'card-1'")
    answer = operator("verification", "export", giro.sample_issuer.issuer_id)
    assert answer.code == 2
    assert answer.err.startswith(f"card card-1: {complaint}")
    assert exported(giro, answer.out).keys() == {"card-2"}
    assert audited(database_url) == [("card-2", "operator", 1)]
    failed = run_sql(
        database_url,
        "SELECT card_id, actor, reason FROM audit_events"
        " WHERE event = 'verification.export.failed'",
    )
    assert failed == [("card-1", "operator", "SEAL_BROKEN")]


async def test_values_that_somebody_puts_back_under_another_holder_are_left_out(
    operator: Operator, giro: SeccosIssuer, database_url: str, tmp_path: Path
) -> None:
    issuer_id, pan = giro.sample_issuer.issuer_id, giro.sample_issuer.pans["card-1"]
    ((pvv,),) = run_sql(database_url, "SELECT sealed_pvv FROM cards WHERE card_id = 'card-1'")
    file = tmp_path / "feeds"
    file.write_text(giro.sample_issuer.feed(described("card-1", pan, cardholder="bob")))
    assert operator("cards", "import", issuer_id, file).code == 0
    put_back: LiteralString = "UPDATE cards SET sealed_pvv = %s WHERE card_id = 'card-1'"
    run_sql(database_url, put_back, pvv)
    answer = operator("verification", "export", issuer_id)
    assert answer.code == 2
    assert answer.err.startswith("card card-1: The sealed value was not sealed for")
    assert exported(giro, answer.out).keys() == {"card-2"}
    run_sql(database_url, put_back, None)
    assert exported(giro, operator.must("verification", "export", issuer_id))["card-1"] == {}


async def test_a_card_under_a_key_that_is_not_in_use_any_more_keeps_no_other_from_the_host(
    operator: Operator, giro: SeccosIssuer, vault: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = vault.export_values

    def without_key(values: Any, sealed_record: Any, card: CardRef, counter: int) -> HandOut[str]:  # noqa: ANN401 - as they come
        if card.card_id == "card-1":
            raise KeyNotInUse("a key is not in use any more")
        return export(values, sealed_record, card, counter)

    monkeypatch.setattr(vault, "export_values", without_key)
    answer = operator("verification", "export", giro.sample_issuer.issuer_id)
    assert answer.code == 2
    assert answer.err.startswith("card card-1: a key is not in use any more")
    assert exported(giro, answer.out).keys() == {"card-2"}


async def test_without_a_host_that_operators_signed_nothing_is_exported(
    operator: Operator,
    giro: SeccosIssuer,
    vault: Watched,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    issuer_id = giro.sample_issuer.issuer_id
    host = vault.read_manifest(issuer_id).verification_host
    change_manifest(vault, issuer_id, verification_host=None)
    refusal = operator.refused("verification", "export", issuer_id)
    assert refusal == "the manifest names no authorisation host"
    assert host is not None
    end = datetime.now(UTC) + timedelta(hours=1)
    change_manifest(
        vault, issuer_id, verification_host=host.model_dump(), valid_until=end.isoformat()
    )
    monkeypatch.setattr(vault, "ahead", timedelta(hours=1))
    refusal = operator.refused("verification", "export", issuer_id)
    assert refusal == "the manifest is not in force now"
    assert audited(database_url) == []


async def test_nothing_is_printed_of_which_there_is_no_record(
    operator: Operator, giro: SeccosIssuer, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def print_(line: str) -> None:
        (named,) = (json.loads(line)["cardId"],)
        assert named in {card for card, *_ in audited(database_url)}
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(verification, "print", print_, raising=False)
    export = ("verification", "export", giro.sample_issuer.issuer_id)
    assert operator.refused(*export) == "No space left on device"
    assert [card for card, *_ in audited(database_url)] == ["card-1", "card-2"]


async def test_an_unknown_issuer_has_nothing_to_export(operator: Operator) -> None:
    assert operator.refused("verification", "export", "girobank99") == "no such issuer"


async def test_a_card_that_comes_with_its_pin_has_every_value_too(
    operator: Operator, giro: SeccosIssuer, tmp_path: Path
) -> None:
    pan, pin = giro.sample_issuer.pans["card-1"], giro.sample_issuer.pin_jwe(PINS["card-1"])
    file = tmp_path / "feeds"
    file.write_text(giro.sample_issuer.feed(described("new-1", pan, encryptedPinBlock=pin)))
    assert operator("cards", "import", giro.sample_issuer.issuer_id, file).code == 0
    out = operator.must("verification", "export", giro.sample_issuer.issuer_id)
    loaded = exported(giro, out)["new-1"]
    assert loaded.keys() == {"pvv", "offset-3624", "prw"}
    assert isinstance(loaded["prw"], dict)
    assert loaded["prw"]["counter"] == 0


async def test_lists_show_neither_sealed_values_nor_what_they_are(
    operator: Operator, giro: SeccosIssuer
) -> None:
    issuer = giro.sample_issuer.issuer_id
    for words in (("cards", "list", issuer), ("cards", "show", issuer, "card-2")):
        shown = operator.must(*words)
        assert "pin_changed_at" in shown
        assert not re.search("sealed|pvv|offset|prw|script", shown)
