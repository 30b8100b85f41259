"""One bank with two servers for each file; the face is served anew for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.cms.faces.pincontrol.teller import Teller, add_backends, opened
from tests.cms.faces.scene import Scene


@pytest.fixture(scope="module")
def with_backends(scene: Scene) -> Scene:
    add_backends(scene)
    return scene


@pytest.fixture
async def teller(with_backends: Scene) -> AsyncIterator[Teller]:
    async with opened(with_backends) as teller:
        yield teller
