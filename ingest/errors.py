"""The kinds of failure that this package tells apart; published data is as it was before each."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from frame.failure import Failure, WrongUse
from frame.git import GitError
from ingest.causes import cause

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# "COPY t, line 2, column n: …" in any language, of the first line alone, and no further than the
# first match: a value comes after it.
_COPY_COLUMN = re.compile(r"COPY .+?, \S+ (\d+), \S+ (.+?)(?:\s?: |$)")

# What PostgreSQL says in these classes names roles, tables, limits and files. Elsewhere it repeats
# values ('invalid input syntax for type integer: "..."'), and so may whatever a function raises.
_WITHOUT_VALUES = (
    *("08", "0A", "23", "25", "28", "2B", "3D", "3F", "40", "42501"),
    *("53", "54", "55", "57", "58", "XX"),
)
_PARSERS = ("gram.y", "scan.l", "parse_", "analyze.c")  # beginnings of the server's file names


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
    """The source or the warehouse refused a statement, or was not there.

    ``transient``: another try may do.
    """

    def __init__(self, message: str, hint: str, *, transient: bool = False) -> None:
        super().__init__(message, hint)
        self.transient = transient


class MovedError(DatabaseError):
    """A source table was changed between the run's snapshot and the reading of its rows."""


class DataError(Failure):
    """The rows are not as they should be; ``brief`` says so without any of their values."""

    def __init__(self, message: str, hint: str, *, brief: str = "") -> None:
        super().__init__(message, hint)
        self.brief = brief or message


class SchemaChangedError(DataError):
    """The source's shape changed, and the pipeline file does not let the table follow."""


class CheckFailedError(DataError):
    """A staged table breaks what its pipeline file says; it stays in staging for a look."""


class ConflictError(Failure):
    """Another run got in between: what this one staged is not what it would publish."""


class BusyError(Failure):
    """Others held what publishing needs; what was staged is kept."""


class RunFailedError(Failure):
    """Some tables of a pipeline failed, each with its own hint; the others were published."""


def is_transient(error: Failure) -> bool:
    """Return whether another try, a little later, may do."""
    return isinstance(error, DatabaseError) and error.transient


def passes(error: Failure) -> bool:
    """Return whether another try, minutes later, may do without anybody mending file or data.

    It is so of all that a server says: a grant, a disk and a lock change by themselves.
    """
    return isinstance(error, DatabaseError | ConflictError | GitError)


def from_postgres(
    error: psycopg.Error, *, side: str, table: str, column: str | None = None
) -> DatabaseError:
    """Turn what ``side`` ("source hr" or "warehouse") said about ``table`` into our error."""
    found = cause(error.sqlstate, lost=isinstance(error, psycopg.OperationalError))
    hint, advice = found.hint(side), _advice(error)
    if advice:
        hint += f" PostgreSQL says: {advice}"
    where = f"table {table}"
    copied = _COPY_COLUMN.match((error.diag.context or "").partition("\n")[0])
    if copied:
        where += f", column {copied[2]}, row {copied[1]}"
    elif column or error.diag.column_name:
        where += f", column {column or error.diag.column_name}"
    wanted = "written" if side == "warehouse" else "read"
    return DatabaseError(
        f"{side}: {where}: expected it to be {wanted}, found: {said(error)}",
        hint=hint,
        transient=found.transient,
    )


@contextmanager
def told(side: str, table: object) -> Iterator[None]:
    """Turn what ``side`` says about ``table`` meanwhile into our error."""
    try:
        yield
    except psycopg.Error as error:
        raise from_postgres(error, side=side, table=str(table)) from error


def _advice(error: psycopg.Error) -> str:
    """Return PostgreSQL's own hint, without any value of a row; call it before :func:`said`."""
    facts = error.diag
    return (facts.message_hint or "") if _is_without_values(error.sqlstate or "", facts) else ""


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
