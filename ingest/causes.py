"""Why a server refused: what that means on either side, and whether another try may do.

Known by the SQLSTATE (PostgreSQL's appendix "Error Codes"), never by the words of a message, which
a server may write in another language.
"""

from __future__ import annotations

from dataclasses import dataclass

_AGAIN = "Run again when the server is back. Published data is intact."


@dataclass(frozen=True)
class Cause:
    """A kind of refusal: beginnings of its SQLSTATEs, and the way out at either side.

    ``transient``: it may well be gone in a minute.
    """

    states: tuple[str, ...]
    source: str
    warehouse: str
    transient: bool = False

    def hint(self, side: str) -> str:
        """Return the way out at ``side``, "source hr" or "warehouse"."""
        return self.warehouse if side == "warehouse" else self.source


# In this order: the first whose beginning fits.
CAUSES = (
    Cause(
        ("42501",),
        "Grant the connection's role USAGE on the schema and SELECT on the table, or leave the"
        " table out by except.",
        "Grant the loader's role what it lacks; the README lists its rights.",
    ),
    Cause(
        ("25006",),
        "Something that is read there writes, as a view that calls nextval does: name the tables"
        " below it instead.",
        "The server is read-only, perhaps a standby: point the connection at the primary.",
    ),
    Cause(
        ("22021", "22P05"),
        "Bytes of a value are no text in the source's encoding: mend that row there, or leave the"
        " column out by columns.",
        "The warehouse's encoding has no such character: it wants UTF8.",
    ),
    Cause(
        ("54000",),
        "A row is larger than the 1 GB that PostgreSQL sends: leave its largest column out by"
        " columns.",
        "A row is larger than the 1 GB that PostgreSQL takes, or has too many columns for the 8 kB"
        " of a page, into which hashes and deletes: mark put more: leave some out by columns.",
    ),
    Cause(
        ("54011",),
        "It has more columns than PostgreSQL takes: leave some out by columns.",
        "It has more columns than PostgreSQL takes, and deletes: mark adds one: leave some out by"
        " columns, or choose another way for deletes.",
    ),
    Cause(
        ("53200",),
        "The source is out of memory, or its table of locks is full: raise"
        " max_locks_per_transaction there, or load fewer tables with a file.",
        "The warehouse is out of memory, or its table of locks is full: raise"
        " max_locks_per_transaction there.",
    ),
    Cause(
        ("53300",),
        "The source takes no more sessions: lower limits.jobs, or allow the role more.",
        "The warehouse takes no more sessions: lower limits.jobs, or allow the role more.",
        transient=True,
    ),
    Cause(
        ("53100",),
        "The source's disk is full: make room there, then run again.",
        "The warehouse's disk is full: make room, then run again. Published data is intact.",
    ),
    Cause(
        ("55P03",),
        "Others hold the table: find them in pg_locks, raise limits.lock_wait, or run again later.",
        "Others hold the table: find them in pg_locks, or run again later.",
    ),
    Cause(
        ("57014",),
        "A statement_timeout or an operator ended the statement: raise it for the role at the"
        " source.",
        "A statement_timeout or an operator ended the statement: raise it for the loader's role.",
    ),
    Cause(
        ("40001",),
        "The standby had to remove rows that were still being read: set hot_standby_feedback = on"
        " there, or raise max_standby_streaming_delay.",
        "Another session was in the way, and the server ended this one's work: run again.",
        transient=True,
    ),
    Cause(
        ("40",),
        "Another session was in the way, and the server ended this one's work: run again.",
        "Another session was in the way, and the server ended this one's work: run again.",
        transient=True,
    ),
    Cause(
        ("42P01", "3F000"),
        "It went away during the run: run again.",
        "It went away during the run: run again.",
    ),
    Cause(
        ("42703", "42P10"),
        "It went away during the run: run again.",
        "A column or the key of the published table is not what ingest gave it: undo that, or run"
        " once with --full-refresh.",
    ),
    Cause(
        ("P0", "38", "39"),
        "The source cannot read a value, or what a view makes of it: mend it there, or leave the"
        " column out by columns.",
        "A trigger or an event trigger that somebody made in the warehouse refused it: drop it, or"
        " have it let the loader's role through.",
    ),
    Cause(
        ("22", "XX002"),
        "The source cannot read a value, or what a view makes of it: mend it there, or leave the"
        " column out by columns.",
        "A value does not fit its type in the warehouse: compare both sides' versions and types.",
    ),
    Cause(
        ("2BP01",),
        "Drop or change the objects that depend on the table, then run again.",
        "Drop or change the objects that depend on the table, then run again.",
    ),
    Cause(
        ("23",),
        "The rows break a constraint at the source: look for a corrupt index there.",
        "The rows break a constraint that somebody gave the published table: drop it; or a key that"
        " the source declares: look for a corrupt index there.",
    ),
    Cause(
        ("XX001", "58"),
        "The source cannot read its own files: look at its log and its disk, and at its backups.",
        "The warehouse cannot use its own files: look at its log and its disk.",
    ),
    Cause(
        ("53",),
        "The source is out of a resource: run again when it has room.",
        "The warehouse is out of a resource: run again when it has room.",
    ),
    Cause(
        ("57P04",),
        "The database was dropped: look at what the connection names.",
        "The database was dropped: look at what the connection names.",
    ),
    Cause(
        ("42P07", "42710"),
        "It came to be during the run: run again.",
        "Something else has a name that the table needs, perhaps an index of a table that was"
        " renamed: rename that, too; the server's log names it.",
    ),
    Cause(
        ("08P01",),
        "A pooler in between gives no whole transactions: its pool_mode must be transaction or"
        " session.",
        "A pooler in between gives no session: point the connection at PostgreSQL itself.",
    ),
    # The server ends, starts, or is not to be heard.
    Cause(("57P", "08"), _AGAIN, _AGAIN, transient=True),
)
_LOST = Cause(("",), _AGAIN, _AGAIN, transient=True)
_OTHER = "The server's log has more about it."
_UNKNOWN = Cause((), _OTHER, _OTHER)


def cause(state: str | None, *, lost: bool = False) -> Cause:
    """Return what a SQLSTATE means; it is None if the connection was ``lost``, or of ours."""
    if not state:
        return _LOST if lost else _UNKNOWN
    return next((each for each in CAUSES if state.startswith(each.states)), _UNKNOWN)
