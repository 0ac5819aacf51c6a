"""Where a table's rows come from, and what of that is another since the last load.

A source table is more than a name: the server may be another one, the database restored, the table
made anew or rewritten below, a partition attached with rows of years ago. None of it shows in a
cursor. Decided without any database; :mod:`ingest.catalog` reads what is compared here.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql
from pydantic import TypeAdapter

_HALF = 2**31  # transactions: beyond them PostgreSQL's own comparison turns round
_WHOLE = 2**32
CRASHED = "the source crashed, and may have lost what was read"
UNKNOWN = "no sign that the source is the same server, as EXECUTE on pg_control_system() gives"


@dataclass(frozen=True)
class Moment:
    """A database at the moment of a snapshot.

    ``system`` is the cluster's identifier, empty where it may not be asked for; ``timeline`` grows
    with each failover; ``database`` is an oid. All transactions before ``oldest`` had ended, and
    ``newest`` had not begun: both count on for ever, where a row's xmin turns round. ``counting``
    is since when the server keeps its statistics: since it was made, or crashed; empty in what an
    older release wrote. ``standby``: what it shows is in the log of its primary for good.
    """

    system: str
    timeline: int
    database: int
    oldest: int
    newest: int
    counting: str = ""
    standby: bool = False


@dataclass(frozen=True)
class Leaf:
    """A table that holds rows itself, as a partition does: its oid, and that of its file."""

    oid: int
    file: int


@dataclass(frozen=True)
class Origin:
    """One table at a moment: its oid and its leaves, none where a view reads others' rows."""

    moment: Moment
    table: int
    leaves: tuple[Leaf, ...] = ()


ORIGIN = TypeAdapter(Origin)  # to and from JSON, for ops.state


@dataclass(frozen=True)
class Moved:
    """What is another since the last load.

    ``source`` says that nothing can be told of rows that were read before, and why; ``rewritten``
    that all of them may have changed, as the table has another file; ``fresh`` are the oids of
    leaves whose rows may all be new, ``joined`` those of them that were not there before.
    ``crashed``: rows that were read may have been taken back, and the numbers of their
    transactions given again.
    """

    source: str = ""
    rewritten: bool = False
    fresh: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()
    crashed: bool = False


def compare(old: Origin | None, new: Origin) -> Moved:
    """Return what is another in ``new``; nothing if it is not known where ``old`` was."""
    if old is None:
        return Moved()
    if why := _other(old, new):
        return Moved(why)
    files = {leaf.oid: leaf.file for leaf in old.leaves}
    fresh = tuple(leaf.oid for leaf in new.leaves if files.get(leaf.oid) != leaf.file)
    return Moved(
        rewritten=bool(fresh) and len(fresh) == len(new.leaves),
        fresh=fresh,
        joined=tuple(oid for oid in fresh if oid not in files),
        crashed=_crashed(old.moment, new.moment),
    )


def is_same_table(old: Origin | None, new: Origin) -> bool:
    """Return whether columns of both may be told by their numbers."""
    return old is None or not _other(old, new)


def written_since(oldest: int) -> sql.Composed:
    """Return the condition for rows that a snapshot did not see before which all had ended.

    A row's xmin is that of the transaction that wrote it, also after it was frozen. Rows that an
    overflow of its 32 bits makes look young are read once too often.
    """
    return sql.SQL("pg_catalog.age(xmin) <= (SELECT pg_catalog.age({}::pg_catalog.xid))").format(
        sql.Literal(str(oldest % _WHOLE))
    )


def _crashed(then: Moment, now: Moment) -> bool:
    """Return whether a primary may have lost the end of its log in between.

    Commits that were not waited for, and all that was rolled back, are seen before they are there
    for good. A crash begins the statistics again; a reset of them costs a full load, too.
    """
    if then.standby or now.standby or not then.counting:
        return False
    return then.counting != now.counting


def _other_server(then: Moment, now: Moment) -> str:
    """Return why both may be of two servers, "" if they are of one.

    Servers that are made by one script have the same oids, transactions and positions of their
    logs. Where the identifier may not be asked for, the beginning of the statistics tells them
    apart; that a crash moves it, too, costs a full load.
    """
    if then.system and now.system:
        return "the source is another server" if then.system != now.system else ""
    if not now.counting:
        return UNKNOWN
    return UNKNOWN if then.counting and then.counting != now.counting else ""


def _other(old: Origin, new: Origin) -> str:
    then, now = old.moment, new.moment
    if why := _other_server(then, now):
        return why
    if then.database != now.database:
        return "the source is another database"
    if then.timeline and then.timeline != now.timeline:
        return "the source had a failover or was restored"
    if not then.oldest <= now.newest < then.oldest + _HALF:
        return "the source has another history of transactions"
    if old.table != new.table:
        return "the source table was made anew"
    return ""
