"""What the service asks of the server itself: what it is connected to, and whether to use it."""

from datetime import timedelta
from typing import Final

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Integer,
    Interval,
    String,
    and_,
    bindparam,
    cast,
    column,
    exists,
    func,
    literal,
    or_,
    select,
    table,
)

from cms.persistence.statements import compiled

REPLICATION_SECONDS_MAX: Final = 2
"""A commit that waits longer for a standby waits for one that is not there."""

_SETTINGS: Final = table("pg_settings", column("name", String), column("setting", String))
_BACKENDS: Final = table(
    "pg_stat_activity", column("wait_event", String), column("query_start", DateTime(timezone=True))
)
_STANDBYS: Final = table("pg_stat_replication", column("sync_state", String))


def _setting(name: str) -> ColumnElement[str]:
    return func.current_setting(literal(name, String), type_=String)


_READ_ONLY: Final = or_(func.pg_is_in_recovery(), _setting("transaction_read_only") == "on")

READ_CONNECTION: Final = compiled(
    select(
        func.pg_backend_pid().label("backend_pid"),
        _setting("server_encoding").label("server_encoding"),
        _READ_ONLY.label("read_only"),
    )
)
"""One row, what a new connection leads to."""

_OTHERS_MS: Final = func.nullif(cast(_SETTINGS.c.setting, Integer), 0)
_LEAST_MS: Final = func.least(_OTHERS_MS, bindparam("statement_ms", type_=Integer))
LIMIT_CONNECTION: Final = compiled(
    select(
        func.set_config(_SETTINGS.c.name, cast(_LEAST_MS, String), False).label("statement_timeout")
    ).where(_SETTINGS.c.name == "statement_timeout")
)
"""Have the server stop a connection's statements, unless it was told to stop them sooner."""

_WAITS_FOR_STANDBY: Final = exists().where(
    _BACKENDS.c.wait_event == "SyncRep",
    _BACKENDS.c.query_start
    < func.now() - literal(timedelta(seconds=REPLICATION_SECONDS_MAX), Interval),
)
# A role without pg_monitor sees that there are standbys, and nothing of them.
_HAS_STANDBY: Final = exists().where(
    or_(
        _STANDBYS.c.sync_state.is_(None),
        _STANDBYS.c.sync_state == "sync",
        _STANDBYS.c.sync_state == "quorum",
    )
)

READ_REVISION: Final = compiled(
    select(column("version_num", String)).select_from(table("alembic_version"))
)
"""One row, the migration that the database had last."""

READ_FITNESS: Final = compiled(
    select(
        _setting("server_encoding").label("server_encoding"),
        and_(
            _setting("fsync") == "on",
            _setting("full_page_writes") == "on",
            _setting("synchronous_commit") != "off",
            _setting("synchronous_commit") != "local",
        ).label("durable"),
        _READ_ONLY.label("read_only"),
        and_(
            _setting("synchronous_standby_names") != "", or_(_WAITS_FOR_STANDBY, ~_HAS_STANDBY)
        ).label("not_replicated"),
        func.clock_timestamp(type_=DateTime(timezone=True)).label("clock"),
    )
)
"""One row: whether what is committed there survives, whether anything can be, and the time there.

That commits wait for a synchronous standby is seen by what every role may see: that none is
connected, or that a backend of its own has waited.
"""
