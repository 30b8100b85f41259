"""A clock for each test."""

import pytest

from tests.cms.services.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()
