"""How much is stored under each key."""

import pytest

from cms.persistence import admin
from cms.persistence.key_labels import NO_LABEL, rows_by_generation
from hsm.pkcs11.keys import KeyLabel, KeyRole
from hsm.port import CardRef, Face
from hsm.sealed import BODY_BYTES, Envelope, pack
from tests.cms.persistence.stored_tokens import CARD, ISSUER_ID, opened
from tests.issuer_records import run_sql
from tests.stored_cards import store_card

OTHER_ISSUER_ID = "testbank02"


def sealed(role: KeyRole, generation: int) -> bytes:
    body = bytes(BODY_BYTES.get(role, 100))
    return pack(Envelope(KeyLabel(role, generation), body, bytes(16)))


def counted(url: str) -> dict[str, int]:
    with admin.transaction(url) as database:
        return dict(rows_by_generation(database))


def test_records_pins_and_values_of_every_issuer_count(database_url: str) -> None:
    old, new = sealed(KeyRole.RECORD, 1), sealed(KeyRole.RECORD, 12)
    pin, value = sealed(KeyRole.PIN, 1), sealed(KeyRole.VALUES, 2)
    with admin.transaction(database_url) as database:
        for issuer_id in (ISSUER_ID, OTHER_ISSUER_ID):
            admin.add_issuer(database, issuer_id, "A bank")
        first, second = (CardRef(ISSUER_ID, f"card-{number}") for number in (1, 2))
        store_card(database, first, sealed_record=old, sealed_pin=pin)
        values = {"sealed_pvv": value, "sealed_offset_3624": value, "sealed_prw": value}
        store_card(database, second, sealed_record=new, sealed_script=value, **values)
        store_card(database, CardRef(OTHER_ISSUER_ID, "card-1"), sealed_record=old, sealed_prw=pin)
    assert counted(database_url) == {"record.g1": 2, "record.g12": 1, "pin.g1": 2, "values.g2": 4}


def test_where_nothing_is_stored_no_key_is_named(database_url: str) -> None:
    assert counted(database_url) == {}


@pytest.mark.parametrize(
    "value", [b"", b"\1", b"\1\6pin", b"\1\6pin.gX", b"\1\6\xff\0\xfe.g1", b"\1\7pin.g1\n", b"\1\0"]
)
def test_a_value_without_a_label_is_counted_too(database_url: str, value: bytes) -> None:
    with admin.transaction(database_url) as database:
        admin.add_issuer(database, ISSUER_ID, "A bank")
        store_card(database, CARD, sealed_record=value)
    assert counted(database_url) == {NO_LABEL: 1}


@pytest.mark.anyio
async def test_grants_count_as_long_as_their_control_tokens_can_be_used(database_url: str) -> None:
    async with opened(database_url) as stored:
        run_sql(database_url, "UPDATE cards SET sealed_record = %s", sealed(KeyRole.RECORD, 1))

        def grants() -> int:
            grant = sealed(KeyRole.GRANT_MAC, 1)
            run_sql(database_url, "UPDATE control_tokens SET sealed_grant = %s", grant)
            return counted(database_url).get("grant-mac.g1", 0)

        await stored.control_token(face=Face.PINCONTROL)
        tzpk = sealed(KeyRole.TZPK, 3)
        run_sql(database_url, "UPDATE control_tokens SET sealed_tzpk = %s", tzpk)
        assert counted(database_url)["tzpk.g3"] == 1
        session = await stored.session(Face.PINCONTROL)
        assert grants() == 2
        stored.age(31)
        # Nobody can open the first one any more; the page of the second is open.
        assert grants() == 1
        assert "tzpk.g3" not in counted(database_url)
        await stored.finish(session.session)
        assert grants() == 0
