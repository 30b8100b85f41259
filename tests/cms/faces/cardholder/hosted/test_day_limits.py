"""A card whose PIN was shown and set as often as may be on a day: as if each token had ended."""

from collections.abc import AsyncIterator

import httpx
import pytest

from hsm.manifest.limits import LimitsBody
from tests.cms.faces.cardholder.hosted.hosted_face import ISSUER_ID, HostedFace
from tests.issuer_records import change_manifest

pytestmark = pytest.mark.anyio
CARD_MAX = 2


@pytest.fixture
async def limited(hosted_face: HostedFace) -> AsyncIterator[HostedFace]:
    """An issuer that lets few PINs of a card be shown or set."""

    async def limit(body: LimitsBody) -> None:
        limits = body.model_dump()
        await hosted_face.d1_face.in_vault(
            lambda vault: change_manifest(vault, ISSUER_ID, limits=limits)
        )

    await limit(LimitsBody(handouts_card_day_max=CARD_MAX))
    yield hosted_face
    await limit(LimitsBody())


async def show(hosted_face: HostedFace, holder: str, times: int = CARD_MAX) -> None:
    for _ in range(times):
        shown = await hosted_face.image(await hosted_face.control_token("pin", holder))
        assert (shown.status_code, shown.headers["x-pin-result"]) == (200, "shown")


def reasons(hosted_face: HostedFace, answer: httpx.Response) -> list[tuple[object, ...]]:
    """What the audit says of a refusal: event and reason."""
    rows = hosted_face.d1_face.audit(answer)
    return [(event, reason) for event, _, _, reason, _ in rows if event.endswith(".refused")]


async def test_an_image_beyond_the_limit_is_answered_as_a_token_that_ended(
    limited: HostedFace,
) -> None:
    _, holder = await limited.holder()
    await show(limited, holder)
    control_token = await limited.control_token("pin", holder)
    refused = await limited.image(control_token)
    ended = await limited.image(control_token)
    assert (refused.status_code, refused.headers["x-pin-result"]) == (410, "ended")
    assert (refused.status_code, refused.content) == (ended.status_code, ended.content)
    assert reasons(limited, refused) == [("pin.get.refused", "LIMIT_REACHED")]
    _, other = await limited.holder()
    await show(limited, other)


async def test_a_page_beyond_the_limit_sets_no_pin_and_its_session_is_over(
    limited: HostedFace,
) -> None:
    card_id, holder = await limited.holder()
    opened = await limited.session(holder)
    await show(limited, holder)
    refused = await limited.submit(opened, "5938")
    assert refused.status_code == 410
    assert reasons(limited, refused) == [("pin.set.refused", "LIMIT_REACHED")]
    assert (await limited.submit(opened, "5938")).status_code == 410
    assert limited.d1_face.counter(card_id) == 1


async def test_what_d1_sets_and_reads_is_not_counted(limited: HostedFace) -> None:
    card_id, holder = await limited.holder()
    for pin in ("5938", "6047", "7156"):
        assert (await limited.d1_face.put_pin(pin, card_id)).status_code == 204
        assert (await limited.d1_face.d1.get(card_id)).status_code == 200
    await show(limited, holder)
