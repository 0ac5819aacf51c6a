"""The kinds of failure that this package tells apart; published data is as it was before each."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from pathlib import Path

# Of the first line alone, and no further than the first match: a value comes after it.
_COPY_COLUMN = re.compile(r"COPY .+?, line (\d+), column (.+?)(?:: |$)")

# By SQLSTATE, the longest prefix first; see PostgreSQL's appendix "Error Codes".
_HINTS = (
    ("42501", "Grant the connection's role what it lacks; the README lists the rights."),
    ("25006", "The server is read-only, perhaps a standby: point the connection at the primary."),
    ("53100", "The server's disk is full: make room, then run again. Published data is intact."),
    ("55P03", "Another session holds the table: find it in pg_locks, or run again later."),
    ("57014", "A statement_timeout or an operator ended the statement: raise it for this role."),
    ("2BP01", "Drop or change the objects that depend on the table, then run again."),
    ("42P01", "The table went away during the run: run again."),
    (
        "22",
        "A value does not fit its type in the warehouse: compare both sides' versions and types.",
    ),
    ("40", "Another session was in the way, and the server ended this one's work: run again."),
    (
        "23",
        "The rows break a constraint that somebody gave the published table: drop it; or a key that"
        " the source declares: look for a corrupt index there.",
    ),
    ("53", "The server is out of a resource: run again when it has room."),
    ("57P", "The server was shut down: run again when it is back."),
    ("08", "The connection was lost: run again when the server is back."),
)
# What PostgreSQL says in these classes names roles, tables, limits and files. Elsewhere it repeats
# values ('invalid input syntax for type integer: "..."'), and so may whatever a function raises.
_WITHOUT_VALUES = (
    *("08", "0A", "23", "25", "28", "2B", "3D", "3F", "40", "42501"),
    *("53", "54", "55", "57", "58", "XX"),
)
_PARSERS = ("gram.y", "scan.l", "parse_", "analyze.c")  # beginnings of the server's file names
_LOST = "The connection was lost: run again when the server is back. Published data is intact."


@dataclass(frozen=True)
class Problem:
    """One fault of a pipeline file: its line (from 1), its key, and what is wrong there."""

    file: Path
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.key}: {self.message}"


class ContractError(Failure):
    """A pipeline file breaks the format; ``problems`` has every fault of it, in file order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(
            "\n".join(str(problem) for problem in problems),
            hint="Mend the file; `ingest schema` prints the format, `ingest check FILE` tries it.",
        )


class UnknownTableError(WrongUse):
    """A caller asked for a table that the pipeline does not load."""


class UnknownConnectionError(WrongUse):
    """A connection id is not defined, or what it holds is no PostgreSQL connection."""


class DatabaseError(Failure):
    """The source or the warehouse refused a statement, or was not there."""


class SchemaChangedError(Failure):
    """The source's shape changed, and the pipeline file does not let the table follow."""


class MovedError(Failure):
    """A source table was changed between the run's snapshot and the reading of its rows."""


class CheckFailedError(Failure):
    """A staged table breaks what its pipeline file says; it stays in staging for a look."""


class ConflictError(Failure):
    """Another run got in between: what this one staged is not what it would publish."""


class BusyError(Failure):
    """Others held what publishing needs; what was staged is kept."""


class RunFailedError(Failure):
    """Some tables of a pipeline failed; the others were published."""


def from_postgres(
    error: psycopg.Error, *, side: str, table: str, column: str | None = None
) -> DatabaseError:
    """Turn what ``side`` ("source hr" or "warehouse") said about ``table`` into our error."""
    state = error.sqlstate or ""
    hint = next((text for prefix, text in _HINTS if state.startswith(prefix)), None)
    if hint is None:
        hint = "The server's log has more about it." if state else _LOST
    where = f"table {table}"
    copied = _COPY_COLUMN.match((error.diag.context or "").partition("\n")[0])
    if copied:
        where += f", column {copied[2]}, row {copied[1]}"
    elif column or error.diag.column_name:
        where += f", column {column or error.diag.column_name}"
    return DatabaseError(
        f"{side}: {where}: expected to go through, found: {said(error)}", hint=hint
    )


def said(error: psycopg.Error) -> str:
    """Return what the server, or libpq, said, without any value of a row.

    From then on ``error`` itself says no more than that: whoever logs the cause of our error logs
    what PostgreSQL put beside its message, such as ``Key (name)=(Ada) already exists``.
    """
    state, facts = error.sqlstate or "", error.diag
    text = facts.message_primary or ""
    if not state and isinstance(error, psycopg.OperationalError):
        text = str(error).strip()
    elif not _is_without_values(state, facts):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
        text = f"{words} ({state})" if state else ""
    text = text or type(error).__name__
    error.args = (text,)
    return text


def _is_without_values(state: str, facts: psycopg.errors.Diagnostic) -> bool:
    if facts.source_function == "exec_stmt_raise":  # with any code that its author liked
        return False
    if (facts.source_file or "").startswith(_PARSERS):  # unless a function made the statement
        return not (facts.context or facts.internal_query)
    return state.startswith(_WITHOUT_VALUES)
