"""An issuer whose PRW only D1 makes; its manifest holds for all of this file."""

import pytest

from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace
from tests.issuer_records import change_manifest

pytestmark = pytest.mark.anyio


async def test_where_only_d1_makes_the_prw_no_page_is_offered(hosted_face: HostedFace) -> None:
    card_id, holder = await hosted_face.holder()
    members = {"seccos": {}, "verification": {"prw": True}}
    await hosted_face.d1_face.in_vault(
        lambda vault: change_manifest(vault, "testbank01", **members)
    )
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
