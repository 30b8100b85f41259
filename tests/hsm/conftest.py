"""Tokens of a test's own."""

from pathlib import Path

import pytest

from cms.sandbox.softhsm import SoftHsm


@pytest.fixture
def own_softhsm(tmp_path: Path) -> SoftHsm:
    """A new token without keys, for other processes: this one has its token already."""
    softhsm = SoftHsm(tmp_path / "softhsm")
    softhsm.ensure()
    return softhsm
