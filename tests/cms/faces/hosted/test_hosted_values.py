"""An issuer whose PRW only D1 makes; its configuration holds for all of this file."""

import pytest

from cms.persistence import admin
from hsm.port import ConfigKind
from tests.bank import config
from tests.cms.faces.hosted.counter import Counter

pytestmark = pytest.mark.anyio


async def test_where_only_d1_makes_the_prw_no_page_is_offered(counter: Counter) -> None:
    card_id, holder = await counter.holder()
    scene = counter.scene
    bodies = {ConfigKind.SECCOS: {}, ConfigKind.VERIFICATION: {"prw": True}}
    for kind, body in bodies.items():
        draft = config("testbank01", kind, body)
        sealed = await scene.in_vault(lambda vault, draft=draft: vault.seal_config(draft))
        with admin.transaction(scene.url) as database:
            admin.load_config(database, sealed)
    refused = await counter.ask("set-pin", holder)
    assert (refused.status_code, refused.json()) == (403, {"message": "Not authorized"})
    assert counter.controls(card_id) == []
    status = await counter.http.get("/v1/card/status", headers=counter.headers(holder))
    assert status.json()["pin"] | {"changedAt": None} == {
        "isSet": True,
        "changedAt": None,
        "canView": True,
        "canSet": False,
    }
    assert (await counter.ask("pin", holder)).status_code == 200
