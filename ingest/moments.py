"""Which server a database is on, and where its transactions stand, as far as a role may ask."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, LiteralString

import psycopg

from ingest.origin import Moment

_MOMENT: LiteralString = """
    SELECT d.oid::bigint, pg_catalog.pg_snapshot_xmin(s)::text::bigint,
           pg_catalog.pg_snapshot_xmax(s)::text::bigint,
           coalesce((SELECT stats_reset::text FROM pg_catalog.pg_stat_archiver), ''),
           pg_catalog.pg_is_in_recovery()
    FROM pg_catalog.pg_database d, pg_catalog.pg_current_snapshot() AS s
    WHERE d.datname = pg_catalog.current_database()
"""
_SYSTEM: LiteralString = """
    SELECT system_identifier::text FROM pg_catalog.pg_control_system()
"""
# The control file has a new timeline only when the first checkpoint of it has ended, which may be
# minutes after a promotion. The file of the log that is written has it at once; a standby has
# what it was last sent, if the role may see it.
_TIMELINE: LiteralString = """
    SELECT ('x' || pg_catalog.left(
              pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::bigint
"""
_TIMELINE_OF_STANDBY: LiteralString = """
    SELECT greatest(c.timeline_id, r.min_recovery_end_timeline, w.received_tli)::bigint
    FROM pg_catalog.pg_control_checkpoint() AS c, pg_catalog.pg_control_recovery() AS r
    LEFT JOIN pg_catalog.pg_stat_wal_receiver AS w ON true
"""

_REFUSED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.FeatureNotSupported)


def read(connection: psycopg.Connection[Any]) -> Moment:
    """Return the moment of the snapshot of this transaction. Raises psycopg.Error."""
    ((database, oldest, newest, counting, standby),) = connection.execute(_MOMENT).fetchall()
    system = _allowed(connection, _SYSTEM) or ""
    timeline = _allowed(connection, _TIMELINE_OF_STANDBY if standby else _TIMELINE) or 0
    return Moment(system, timeline, database, oldest, newest, counting, standby)


def _allowed(connection: psycopg.Connection[Any], query: LiteralString) -> Any:
    """Return the value that ``query`` gives; None if the role or the server has no such right."""
    with suppress(*_REFUSED), connection.transaction():
        ((value,),) = connection.execute(query).fetchall()
        return value
    return None
