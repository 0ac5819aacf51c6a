"""Sessions of a restore, with which settings and triggers of the target do not interfere."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from frame.failure import Failure
from frame.log import get_logger

if TYPE_CHECKING:
    from backup.postgres.connection import PostgresUri

# Of pg_restore's sessions as of ours, so they stand in the options with which a session begins:
# those are before what role, database and server have set. A worker may wait for hours for another
# one's index; a library that this server has not lets no session begin.
UNDISTURBED = {
    "default_transaction_read_only": "off",
    "idle_session_timeout": "0",
    "local_preload_libraries": "",
    "session_preload_libraries": "",
}
# Where all of a database comes back its own triggers see nothing of it. One at login, which the
# backup brings, would keep out who analyses and compares.
OF_A_WHOLE = {"event_triggers": "off"}
_KNOWN: LiteralString = """
SELECT name FROM pg_settings WHERE name = ANY(%s)
  AND (context = 'user' OR (SELECT rolsuper FROM pg_roles WHERE rolname = current_user))
"""

log = get_logger(__name__)


def undisturbed(target: PostgresUri, *, whole: bool) -> PostgresUri:
    """Return the same login for sessions that begin with what the server knows of the above.

    As it is if none can begin so: not every pooler takes options. Raises Failure.
    """
    wanted = UNDISTURBED | (OF_A_WHOLE if whole else {})
    with target.connect_to_server("restore") as connection:
        known = {name for (name,) in connection.execute(_KNOWN, [list(wanted)])}
    begun = target.with_settings({name: wanted[name] for name in wanted if name in known})
    try:
        begun.connect_to_server("restore").close()
    except Failure as failure:
        log.warning("sessions begin as role and database have it", why=failure.message)
        return target
    return begun


def why_none_begins(target: PostgresUri) -> str:
    """Return what PostgreSQL says against a session of ``target`` as it is, or nothing."""
    try:
        target.connect("restore").close()
    except Failure as failure:
        return failure.message
    return ""
