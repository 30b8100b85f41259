"""One bank with two apps for each file; the face is served anew for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.cms.faces.hosted.counter import Counter, add_apps, opened
from tests.cms.faces.scene import Scene


@pytest.fixture(scope="module")
def with_apps(scene: Scene) -> Scene:
    add_apps(scene)
    return scene


@pytest.fixture
async def counter(with_apps: Scene) -> AsyncIterator[Counter]:
    async with opened(with_apps) as counter:
        yield counter
