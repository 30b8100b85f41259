"""A PIN is shown once, as an image, and where its issuer allows it as text too."""

import asyncio
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from hsm.errors import VaultUnavailable
from tests.cms.faces.cardholder.pincontrol import backends, outcomes
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import AUDIT_USER, PinControlFace, opened
from tests.cms.faces.d1_face import D1Face
from tests.in_process_vault import NoVault
from tests.issuer_records import SampleIssuer

pytestmark = pytest.mark.anyio
ENDED = (410, "CONTROL_ENDED", outcomes.DYNAMIC)
PNG = b"\x89PNG"
CONSUMED = -1


@pytest.fixture(scope="module")
async def text_issuer(with_backends: D1Face) -> SampleIssuer:
    return await backends.add_text_issuer(with_backends)


def page_key() -> tuple[JWK, dict[str, Any]]:
    """A key pair as the page makes it, and what it sends of it."""
    key = JWK.generate(kty="EC", crv="P-256")
    return key, key.export_public(as_dict=True)


@pytest.mark.parametrize("key", [None, backends.FRAME_KEY])
async def test_an_id_shows_the_pin_once(pincontrol_face: PinControlFace, key: str | None) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    shown = await pincontrol_face.view(control_id, key)
    assert shown.status_code == 200
    assert shown.content.startswith(PNG)
    assert shown.headers["content-type"] == "image/png"
    assert shown.headers["cache-control"] == "no-store, no-transform"
    assert shown.headers["x-pin-result"] == "shown"
    assert shown.headers["cross-origin-resource-policy"] == "same-origin"
    assert "x-pin-session" not in shown.headers
    assert "access-control-allow-origin" not in shown.headers
    assert pincontrol_face.audit(shown) == [
        ("pin.get", card_id, backends.USER, "pincontrol", AUDIT_USER, None)
    ]
    assert pincontrol_face.controls(card_id) == [(True, "shown")]
    again = await pincontrol_face.view(control_id, key)
    assert outcomes.failure(again) == ENDED
    refused = ("pin.get.refused", card_id, backends.USER, "CONTROL_ENDED", AUDIT_USER)
    assert pincontrol_face.audit(again) == [(*refused, again.json()["id"])]
    assert pincontrol_face.audit(await pincontrol_face.view(str(uuid4()))) == []


async def test_images_of_all_pins_have_one_length(pincontrol_face: PinControlFace) -> None:
    lengths = set()
    for pin in ("4071", "9038", "2846"):
        _, plastic_id = await pincontrol_face.plastic(pin=pin)
        lengths.add(
            len((await pincontrol_face.view(await pincontrol_face.control_id(plastic_id))).content)
        )
    assert len(lengths) == 1


async def test_50_requests_at_once_show_one_image(pincontrol_face: PinControlFace) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    answers = await asyncio.gather(*(pincontrol_face.view(control_id) for _ in range(50)))
    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 49}
    shown = "SELECT count(*) FROM audit_events WHERE event = 'pin.get' AND card_id = %s"
    assert pincontrol_face.sql(shown, card_id) == [(1,)]


async def test_an_id_is_good_for_its_client_its_scope_and_its_time(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    view = await pincontrol_face.control_id(plastic_id)
    set_ = await pincontrol_face.control_id(plastic_id, "SET_PIN")
    for answer in (
        await pincontrol_face.view(view, backends.OTHER_FRAME_KEY),
        await pincontrol_face.view(view, "nobody"),
        await pincontrol_face.view(view, ""),
        await pincontrol_face.open(view),
        await pincontrol_face.open(view, backends.FRAME_KEY),
        await pincontrol_face.view(set_),
        await pincontrol_face.open(set_, backends.OTHER_FRAME_KEY),
        await pincontrol_face.view(str(uuid4())),
        await pincontrol_face.view(view[:-1]),
        await pincontrol_face.view(view.replace("-", "")),
    ):
        assert outcomes.failure(answer) == ENDED
    assert pincontrol_face.controls(card_id) == [(False, None), (False, None)]
    pincontrol_face.age(card_id, 31)
    assert outcomes.failure(await pincontrol_face.view(view)) == ENDED
    other = await pincontrol_face.control_id(plastic_id, user=backends.OTHER_USER)
    assert outcomes.failure(await pincontrol_face.view(other, backends.FRAME_KEY)) == ENDED
    assert (await pincontrol_face.view(other, backends.OTHER_FRAME_KEY)).status_code == 200


async def test_an_id_that_was_used_in_one_way_is_good_in_no_other(
    pincontrol_face: PinControlFace,
) -> None:
    _, plastic_id = await pincontrol_face.plastic()
    for first, second in ((None, backends.FRAME_KEY), (backends.FRAME_KEY, None)):
        view = await pincontrol_face.control_id(plastic_id)
        assert (await pincontrol_face.view(view, first)).status_code == 200
        assert outcomes.failure(await pincontrol_face.view(view, second)) == ENDED
        set_ = await pincontrol_face.control_id(plastic_id, "SET_PIN")
        assert (await pincontrol_face.open(set_, first)).status_code == 200
        assert outcomes.failure(await pincontrol_face.open(set_, second)) == ENDED


async def test_a_card_that_was_blocked_meanwhile_shows_nothing(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    pincontrol_face.block(card_id)
    answer = await pincontrol_face.view(control_id)
    assert outcomes.failure(answer) == ENDED
    refused = ("pin.get.refused", card_id, backends.USER, "CARD_STATE_FORBIDDEN", AUDIT_USER)
    assert pincontrol_face.audit(answer) == [(*refused, answer.json()["id"])]


async def test_a_pin_that_was_changed_meanwhile_is_not_shown(
    pincontrol_face: PinControlFace,
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)
    await pincontrol_face.d1_face.put_pin("8317", card_id)
    assert outcomes.failure(await pincontrol_face.view(control_id)) == ENDED


async def test_with_the_vault_unavailable_nothing_is_shown_and_the_id_is_consumed(
    with_backends: D1Face, pincontrol_face: PinControlFace
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    control_id = await pincontrol_face.control_id(plastic_id)

    vault = NoVault(VaultUnavailable("the HSM token is unavailable"))
    async with opened(with_backends, vault=vault) as without:
        answer = await without.view(control_id)
        assert outcomes.failure(answer) == (503, "TRY_LATER", "INTEGRATION_ERROR")
        assert PNG not in answer.content
        assert pincontrol_face.controls(card_id) == [(True, "shown")]
        set_ = await pincontrol_face.control_id(plastic_id, "SET_PIN")
        assert outcomes.failure(await without.open(set_))[0] == 503
        assert pincontrol_face.controls(card_id)[1] == (False, None)
    assert outcomes.failure(await pincontrol_face.view(control_id)) == ENDED
    assert (await pincontrol_face.open(set_)).status_code == 200


# Text


@dataclass(frozen=True)
class Shown:
    """What a page knows with its image."""

    control_id: str
    session: str
    grant_id: str

    def asking(self, key: object) -> dict[str, object]:
        """What its script sends for the PIN as text."""
        return {"session": self.session, "controlToken": self.control_id, "key": key}


async def shown_image(
    pincontrol_face: PinControlFace, plastic_id: str, key: str | None = None
) -> Shown:
    control_id = await pincontrol_face.control_id(plastic_id, user=backends.TEXT_USER)
    shown = await pincontrol_face.view(control_id, key)
    assert shown.status_code == 200, shown.text
    return Shown(control_id, shown.headers["x-pin-session"], shown.headers["x-pin-grant"])


@pytest.mark.parametrize("key", [None, backends.TEXT_FRAME_KEY])
@pytest.mark.parametrize("pin", ["5938", "9038"])
async def test_the_page_gets_the_digits_once_enciphered_to_its_key(
    pincontrol_face: PinControlFace, text_issuer: SampleIssuer, pin: str, key: str | None
) -> None:
    card_id, plastic_id = await pincontrol_face.text_plastic(text_issuer, pin)
    shown = await shown_image(pincontrol_face, plastic_id, key)
    private, public = page_key()
    answer = await pincontrol_face.post("digits", **shown.asking(public))
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json().keys() == {"jwe"}
    read = JWE(algs=["ECDH-ES", "A256GCM"])
    read.deserialize(answer.json()["jwe"], private)
    assert json.loads(read.payload) == {"grantId": shown.grant_id, "digits": pin}
    recorded = (
        "pin.get",
        card_id,
        backends.TEXT_USER,
        "pincontrol text",
        AUDIT_USER,
        None,
    )
    assert pincontrol_face.audit(answer) == [recorded]
    assert outcomes.failure(await pincontrol_face.post("digits", **shown.asking(public))) == ENDED


async def test_of_50_requests_at_once_one_gets_the_digits(
    pincontrol_face: PinControlFace, text_issuer: SampleIssuer
) -> None:
    card_id, plastic_id = await pincontrol_face.text_plastic(text_issuer, "5938")
    shown, (_, public) = await shown_image(pincontrol_face, plastic_id), page_key()
    asked = (pincontrol_face.post("digits", **shown.asking(public)) for _ in range(50))
    answers = await asyncio.gather(*asked)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 410: 49}
    text = "SELECT count(*) FROM audit_events WHERE reason = 'pincontrol text' AND card_id = %s"
    assert pincontrol_face.sql(text, card_id) == [(1,)]


async def test_a_key_that_is_no_pages_key_gets_no_digits(
    pincontrol_face: PinControlFace, text_issuer: SampleIssuer
) -> None:
    _, good = page_key()
    intake = text_issuer.intake_jwk
    for key, status in (
        (None, 400),
        ("key", 400),
        ([good], 400),
        ({}, 410),
        (good | {"x": good["y"]}, 410),
        (good | {"crv": "P-384"}, 410),
        (good | {"kty": "oct"}, 410),
        (good | {"x": 1}, 410),
        (good | {"y": "\ud800"}, 400),
        # Keys of ours: only the vault knows them, and it is asked last.
        (intake, CONSUMED),
        (text_issuer.d1_jwk, CONSUMED),
        (JWK.generate(kty="RSA", size=2048).export_public(as_dict=True), 410),
    ):
        # A card has so many hand-outs on a day.
        _, plastic_id = await pincontrol_face.text_plastic(text_issuer, "5938")
        shown = await shown_image(pincontrol_face, plastic_id)
        answer = await send(pincontrol_face, shown.asking(key))
        assert outcomes.failure(answer)[0] == (410 if status is CONSUMED else status), key
        again = await pincontrol_face.post("digits", **shown.asking(good))
        assert again.status_code == (410 if status is CONSUMED else 200)


async def send(pincontrol_face: PinControlFace, members: object) -> httpx.Response:
    return await pincontrol_face.http.post(
        "/pincontrol/page/digits",
        content=json.dumps(members).encode(),
        headers={"content-type": "application/json"},
    )


async def test_without_text_there_is_no_session_and_no_digits(
    pincontrol_face: PinControlFace, text_issuer: SampleIssuer
) -> None:
    card_id, plastic_id = await pincontrol_face.plastic()
    _, public = page_key()
    control_id = await pincontrol_face.control_id(plastic_id)
    opened = await pincontrol_face.session(plastic_id)
    for session in (control_id, opened["session"], str(uuid4()), ""):
        asking = Shown(control_id, session, "a grant").asking(public)
        assert outcomes.failure(await pincontrol_face.post("digits", **asking)) == ENDED
    assert pincontrol_face.controls(card_id) == [(False, None), (True, None)]
    assert "x-pin-session" not in (await pincontrol_face.view(control_id)).headers


async def test_a_session_for_text_is_good_for_nothing_else(
    pincontrol_face: PinControlFace, text_issuer: SampleIssuer
) -> None:
    card_id, plastic_id = await pincontrol_face.text_plastic(text_issuer, "5938")
    shown = await shown_image(pincontrol_face, plastic_id)
    for verb, members in (
        ("extend", {}),
        ("submit", {"controlToken": shown.control_id, "jwe": "a.b.c.d.e"}),
    ):
        assert (
            outcomes.failure(await pincontrol_face.post(verb, session=shown.session, **members))
            == ENDED
        )
    assert outcomes.failure(await pincontrol_face.view(shown.session)) == ENDED
    _, public = page_key()
    assert (await pincontrol_face.post("digits", **shown.asking(public))).status_code == 200
    assert pincontrol_face.controls(card_id)[-1] == (True, "shown")


async def test_a_session_for_text_that_the_page_hides_is_over(
    pincontrol_face: PinControlFace, text_issuer: SampleIssuer
) -> None:
    card_id, plastic_id = await pincontrol_face.text_plastic(text_issuer, "5938")
    shown, (_, public) = await shown_image(pincontrol_face, plastic_id), page_key()
    assert pincontrol_face.controls(card_id)[-1] == (True, None)
    for _ in range(2):
        assert (await pincontrol_face.post("cancel", session=shown.session)).status_code == 204
    assert pincontrol_face.controls(card_id)[-1] == (True, "shown")
    assert outcomes.failure(await pincontrol_face.post("digits", **shown.asking(public))) == ENDED


@pytest.mark.parametrize("meanwhile", ["expired", "changed", "blocked", "personalised"])
async def test_what_happened_since_the_image_counts_for_the_text(
    pincontrol_face: PinControlFace, text_issuer: SampleIssuer, meanwhile: str
) -> None:
    card_id, plastic_id = await pincontrol_face.text_plastic(text_issuer, "5938")
    shown, (_, public) = await shown_image(pincontrol_face, plastic_id), page_key()
    if meanwhile == "expired":
        pincontrol_face.age(card_id, 300)
    elif meanwhile == "changed":
        changed = await pincontrol_face.session(plastic_id, backends.TEXT_USER)
        assert (await pincontrol_face.submit(changed, "7261")).status_code == 204
    elif meanwhile == "blocked":
        pincontrol_face.block(card_id)
    else:
        pincontrol_face.produce(card_id)
    answer = await pincontrol_face.post("digits", **shown.asking(public))
    # A card is seen whether or not it is personalised.
    assert answer.status_code == (200 if meanwhile == "personalised" else 410)
