"""One issuer with two apps for each file; the face is served anew for each test."""

from collections.abc import AsyncIterator

import pytest

from tests.cms.faces.cardholder.hosted import apps
from tests.cms.faces.cardholder.hosted.hosted_face import HostedFace, opened
from tests.cms.faces.d1_face import D1Face


@pytest.fixture(scope="module")
async def with_apps(d1_face: D1Face) -> D1Face:
    await apps.add_apps(d1_face)
    return d1_face


@pytest.fixture
async def hosted_face(with_apps: D1Face) -> AsyncIterator[HostedFace]:
    async with opened(with_apps) as hosted_face:
        yield hosted_face
