"""What the faces of the cardholders' listener share."""

import pytest


@pytest.fixture(params=[False, True], ids=["nothing arrives", "the answer is lost"])
def late(request: pytest.FixtureRequest) -> bool:
    """How a store loses a statement."""
    return bool(request.param)
