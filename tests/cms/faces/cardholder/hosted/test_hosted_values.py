"""An issuer whose PRW only D1 makes; its configuration holds for all of this file."""

import pytest

from cms.persistence import admin
from hsm.port import ConfigKind
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace
from tests.issuer_records import config

pytestmark = pytest.mark.anyio


async def test_where_only_d1_makes_the_prw_no_page_is_offered(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    d1_face = hosted_face.d1_face
    bodies = {ConfigKind.SECCOS: {}, ConfigKind.VERIFICATION: {"prw": True}}
    for kind, body in bodies.items():
        draft = config("testbank01", kind, body)
        sealed = await d1_face.in_vault(lambda vault, draft=draft: vault.seal_config(draft))
        with admin.transaction(d1_face.url) as database:
            admin.load_config(database, sealed)
    refused = await hosted_face.ask("set-pin", holder)
    assert (refused.status_code, refused.json()) == (403, {"message": "Not authorized"})
    assert hosted_face.controls(card_id) == []
    status = await hosted_face.http.get("/v1/card/status", headers=hosted_face.headers(holder))
    assert status.json()["pin"] | {"changedAt": None} == {
        "isSet": True,
        "changedAt": None,
        "canView": True,
        "canSet": False,
    }
    assert (await hosted_face.ask("pin", holder)).status_code == 200
