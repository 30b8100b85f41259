"""What attacks: the services of the faces' tests, and the owner of their database."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from cms.services import directory
from tests.attacks.database_owner import DatabaseOwner, opened
from tests.cms.faces.cardholder.hosted.conftest import hosted_face, with_apps
from tests.cms.faces.conftest import d1_face
from tests.cms.faces.d1_face import D1Face

__all__ = ["d1_face", "hosted_face", "with_apps"]
_numbers = itertools.count(1)


@pytest.fixture
async def owner(d1_face: D1Face, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DatabaseOwner]:
    """The owner of the database, whose issuer's clients read each manifest anew."""
    monkeypatch.setattr(directory, "TTL_SECONDS", 0.0)
    async with opened(d1_face, f"victim{next(_numbers):04}") as owner:
        yield owner


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that can be opened to other users: pytest closes the one above its own."""
    with TemporaryDirectory() as directory:
        yield Path(directory)
