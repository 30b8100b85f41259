"""One issuer with two servers for each file; the face is served anew for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.cms.faces.cardholder.pincontrol import backends
from tests.cms.faces.cardholder.pincontrol.pincontrol_face import PinControlFace, opened
from tests.cms.faces.d1_face import D1Face


@pytest.fixture(scope="module")
async def with_backends(d1_face: D1Face) -> D1Face:
    await backends.add_backends(d1_face)
    return d1_face


@pytest.fixture
async def pincontrol_face(with_backends: D1Face) -> AsyncIterator[PinControlFace]:
    async with opened(with_backends) as pincontrol_face:
        yield pincontrol_face
