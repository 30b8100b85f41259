"""Failures cost less than what they fail to get: an image of one is drawn once, off the loop."""

import threading

import pytest

from cms.faces.cardholder.hosted import failure_images
from cms.faces.cardholder.hosted.failure_images import FailureImages
from crypto.pin_image import Colour, ImageStyle, MessageKind, render_message
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace

pytestmark = pytest.mark.anyio
DARK = ImageStyle(Colour(0, 0, 0), Colour(255, 255, 255))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[MessageKind, ImageStyle, int]]:
    """What was drawn, and on which thread."""
    calls: list[tuple[MessageKind, ImageStyle, int]] = []

    def draw(kind: MessageKind, style: ImageStyle) -> bytes:
        calls.append((kind, style, threading.get_ident()))
        return render_message(kind, style)

    monkeypatch.setattr(failure_images, "render_message", draw)
    return calls


async def test_an_image_is_drawn_once_for_each_style_on_another_thread(
    drawn: list[tuple[MessageKind, ImageStyle, int]],
) -> None:
    images = FailureImages()
    for _ in range(3):
        for style in (ImageStyle(), DARK):
            png = await images.image(MessageKind.ENDED, style)
            assert png == render_message(MessageKind.ENDED, style)
    assert [style for _, style, _ in drawn] == [ImageStyle(), DARK]
    assert threading.get_ident() not in {thread for *_, thread in drawn}


async def test_only_the_images_used_last_are_kept(
    drawn: list[tuple[MessageKind, ImageStyle, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failure_images, "IMAGES_MAX", 2)
    images = FailureImages()
    used = (MessageKind.ENDED, MessageKind.FAILED, MessageKind.ENDED, MessageKind.LIMITED)
    for kind in (*used, MessageKind.ENDED, MessageKind.FAILED):
        await images.image(kind, DARK)
    assert [kind for kind, *_ in drawn] == [*used[:2], MessageKind.LIMITED, MessageKind.FAILED]


async def test_hundreds_of_junk_tokens_have_two_images_drawn_and_are_answered_small(
    hosted_face: HostedFace, drawn: list[tuple[MessageKind, ImageStyle, int]]
) -> None:
    answers = [await hosted_face.image(f"junk-{n}") for n in range(381)]
    assert {answer.status_code for answer in answers} == {410, 429}
    assert {kind for kind, *_ in drawn} == {MessageKind.ENDED, MessageKind.LIMITED}
    assert len(drawn) == 2
    assert sum(len(answer.content) for answer in answers) < 381 * 10_000
