"""When the demo sets itself up anew."""

from pathlib import Path
from typing import cast

import pytest

from cms.sandbox import set_up
from cms.sandbox.machine.postgres import Postgres


class Tables:
    """A database that has tables, or none."""

    def __init__(self, *, there: bool) -> None:
        self.there = there

    def has_tables(self) -> bool:
        return self.there


@pytest.mark.parametrize(
    ("kind", "tables", "expected"),
    [
        pytest.param(set_up.kind(), True, True, id="all is there"),
        pytest.param(set_up.kind(), False, False, id="the database is new"),
        pytest.param("3\n", True, False, id="of an older kind"),
        pytest.param(f"{set_up.NUMBER} {64 * '0'}\n", True, False, id="of another schema"),
        pytest.param(None, True, False, id="interrupted"),
    ],
)
def test_what_an_earlier_run_left_is_kept_only_if_it_is_whole_and_of_today(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str | None,
    tables: bool,
    expected: bool,
) -> None:
    file = tmp_path / "set-up"
    if kind is not None:
        file.write_text(kind)
    monkeypatch.setattr(set_up, "KIND_FILE", file)
    assert set_up.is_set_up(cast("Postgres", Tables(there=tables))) is expected
