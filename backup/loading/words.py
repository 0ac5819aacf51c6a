"""What pg_restore says while it works: which entries failed and why, and how long each took.

Its standard error is read line by line as it comes. Parallel workers write to one pipe, each its
name, a space, ``error: `` and the message with its line break one after the other, and others come
in between: a line is one message, with any of these in front. What it is goes by its content.

A server's message can hold a row's values, and a statement a password. Of a message only the first
line is kept, and in it nothing in quotes but names of the archive; details, contexts and statements
are dropped.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from backup.loading.archive import Section
from backup.loading.qualified import identifiers
from backup.postgres.names import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from backup.loading.archive import Archive, Entry

LINE_BYTES = 16_384  # the rest of a longer line, which is a statement's, is dropped
MESSAGE_CHARACTERS = 500
NAMES_BYTES = 64_000_000  # of definitions, from which the names are taken that may be shown

_FRONT = re.compile(r"^(?:pg_restore:|(?:error|warning|detail|hint): | )*")
_ENTRY = re.compile(r"from TOC entry (\d+); \d+ \d+ ")
_ERROR = re.compile(r'COPY failed for table "|could not execute query: ')  # whoever says error:
# libpq puts two spaces behind the severity, in whatever language it is.
_SEVERITY = re.compile(r"(?:^|: )(?P<severity>[^\s:]+):  (?P<message>.*)$")
_COPY = re.compile(r'^COPY failed for table "(?P<table>.*)": ')
_IGNORED = re.compile(r"errors ignored on restore: (\d+)")
_JOB = re.compile(r"(launching|finished) item (\d+) ")
_STEP = re.compile(
    r'(?:creating (?P<kind>[A-Z ]+?)|processing data for table) "(?P<name>.*)"$'
    r"|executing (?P<set>[A-Z ]+?) (?P<called>\S.*)$"
)
_WATCHED = re.compile(f"{_IGNORED.pattern}|{_JOB.pattern}|while PROCESSING TOC|{_STEP.pattern}")
_PROGRAM, _SAYS_ERROR = "pg_restore:", "error: "
_STATEMENT = "Command was: "
# Names that no entry has to hold: what pg_restore sets, encodings.
_PARAMETERS = (
    "default_tablespace", "default_table_access_method", "client_encoding", "UTF8", "SQL_ASCII",
)  # fmt: skip
# Each session begins with them. A client sets those of its own version, which an older server has
# not, and it is as well without.
_TIMEOUT = re.compile(r"SET \w+_timeout = 0;$")
_SETTING = "SET "
_FIELD = re.compile(r"^\s|^[^\s:]+(?: \d+)?: ")  # DETAIL, LINE 1, in any language; the caret below
# Whose message is its author's own: RAISE, ASSERT, and every other language's errors.
_AUTHORED = re.compile(r"PL/pgSQL function .* (?:RAISE|ASSERT)$|PL/(?!pgSQL)\S+ ", re.MULTILINE)
_QUOTES = '"«»„“”「」『』'  # of the languages that PostgreSQL speaks
_QUOTED = re.compile(f"[{_QUOTES}]([^{_QUOTES}]*)(?:[{_QUOTES}]|$)")
_BYTES = re.compile(r"\b0x[0-9a-fA-F]+")
_PARAMETER = re.compile(r'^unrecognized configuration parameter "[\w$]+(\.[\w$]+)*"$')
_LIBRARY = re.compile(r"\$libdir/[\w.+-]+")
HIDDEN = "…"


def lines(blocks: Iterable[bytes], encoding: str) -> Iterator[str]:
    """Yield the lines of a stream, each no longer than LINE_BYTES, with names as an archive's."""
    kept = bytearray()
    for block in blocks:
        first, *rest = block.split(b"\n")
        kept += first[: LINE_BYTES - len(kept)]
        for part in rest:
            yield kept.decode(encoding, "surrogateescape")
            kept = bytearray(part[:LINE_BYTES])
    if kept:
        yield kept.decode(encoding, "surrogateescape")


@dataclass(frozen=True)
class Complaint:
    """An error of pg_restore: about the entry of this number, or None, and what it says of it."""

    number: int | None
    message: str


class _Error:
    """An error of which more lines may come."""

    def __init__(self, text: str) -> None:
        found = _SEVERITY.search(text)
        copied = _COPY.match(text)
        self.table = copied["table"] if copied else None
        self.severity = found["severity"] if found else ""
        self.message = found["message"] if found else text
        self.in_message, self.is_one_line = True, True
        self.context = ""

    def add(self, line: str) -> None:
        """Take one more line of it, of which nothing will be shown."""
        if not line.strip():
            return
        if self.in_message and not _FIELD.match(line):
            self.is_one_line = False
            return
        self.in_message = False
        self.context = (self.context + "\n" + line)[-LINE_BYTES:]

    def shown(self, names: Callable[[], frozenset[str]]) -> str:
        """Return what may be shown of it."""
        if not self.severity:
            return self.message[:MESSAGE_CHARACTERS]  # of pg_restore or libpq themselves
        if _AUTHORED.search(self.context):
            return f"{self.severity}: an error of a function's own ({HIDDEN})"
        if _PARAMETER.match(self.message):
            return f"{self.severity}: {self.message}"
        shown = without_values(self.message, names(), is_whole=self.is_one_line)
        return f"{self.severity}: {shown[:MESSAGE_CHARACTERS]}"


def without_values(message: str, names: frozenset[str], *, is_whole: bool) -> str:
    """Return a server's message with ``…`` for what stands in quotes and is no name.

    A value may hold quotes itself, so all is hidden from the first that is no name to the last
    quote, or to the end unless the message ``is_whole``.
    """
    for found in _QUOTED.finditer(message):
        text = found[1]
        if text in names or _LIBRARY.fullmatch(text) or names.issuperset(text.split(".")):
            continue
        start = found.start(1)
        last = max(message.rfind(quote) for quote in _QUOTES)
        behind = message[last:] if is_whole and last >= start else ""
        message = message[:start] + HIDDEN + behind
        break
    return _BYTES.sub(f"0x{HIDDEN}", message)


class Listener:
    """Takes pg_restore's lines, and knows afterwards what they came to."""

    def __init__(self, archive: Archive, clock: Callable[[], float] = time.monotonic) -> None:
        """Start the clock."""
        self._archive = archive
        self._clock = clock
        self._began = clock()
        self._data_began: float | None = None
        self._data_ended: float | None = None
        self._ended: float | None = None
        self._running: dict[int, float] = {}
        self._step: tuple[int | None, float] = (None, self._began)
        self._is_parallel = False
        self._pending: list[int] = []
        self._last: int | None = None
        self._error: _Error | None = None
        self.complaints: list[Complaint] = []
        self.warnings: dict[str, None] = {}
        self.ignored: int | None = None
        self.seconds_of: dict[int, float] = {}

    def hear(self, line: str) -> None:
        """Take one line."""
        said = _FRONT.sub("", line, count=1)
        before = line.removesuffix(said)
        if entry := _ENTRY.match(said):
            self._close()
            self._pending.append(int(entry[1]))
        elif _ERROR.match(said) or (_SAYS_ERROR in before and not _WATCHED.match(said)):
            self._close()
            self._error = _Error(said)
        elif _PROGRAM in before:
            self._close()
            self._watch(said)
        elif said.startswith(_STATEMENT):
            self._close(said.removeprefix(_STATEMENT))
        elif _WATCHED.match(said):
            self._watch(said)
        elif self._error:
            self._error.add(line)

    def end(self) -> None:
        """Take the end of all lines, and stop the clock."""
        self._close()
        self._ended = self._clock()
        self._finish_step(self._ended)

    @property
    def is_complete(self) -> bool:
        """Whether pg_restore came to the end of all that it was to do, errors or not."""
        return self.ignored is not None

    def seconds(self) -> dict[str, float]:
        """Return how long each section took, one after the other.

        Indexes that are made while rows of other tables still come are within ``data``.
        """
        ended = self._ended if self._ended is not None else self._clock()
        data_ended = self._data_ended if self._data_ended is not None else ended
        data_began = self._data_began if self._data_began is not None else data_ended
        return {
            "pre-data": data_began - self._began,
            "data": data_ended - data_began,
            "post-data": ended - data_ended,
        }

    def _close(self, statement: str = "") -> None:
        """Take what was said of an error as all of it, and find the entry that it is about."""
        if not (error := self._error):
            return
        self._error = None
        message = printable(error.shown(lambda: self._names))
        number = self._about(error, statement)
        if _TIMEOUT.match(statement):
            self.warnings[message] = None
        else:
            of_session = statement.startswith(_SETTING)
            self.complaints.append(Complaint(None if of_session else number, message))

    def _about(self, error: _Error, statement: str) -> int | None:
        """Return the number of the entry that the error is about, and wait for it no more."""
        entries = self._archive.by_number
        matching = [
            number
            for number in self._pending
            if number in entries and _is_about(entries[number], error, statement)
        ]
        number = next(iter(matching or self._pending), self._last)
        if number in self._pending:
            self._pending.remove(number)
        self._last = number
        return number

    @cached_property
    def _names(self) -> frozenset[str]:
        """What may be shown: names in the archive, no literal of it."""
        names = {*_PARAMETERS}
        size = 0
        for entry in self._archive.entries:
            names |= {entry.name, entry.schema, entry.owner or "", entry.tablespace or ""}
            size += len(entry.sql)
            if size < NAMES_BYTES:
                names.update(identifiers(entry.sql))
        return frozenset(names)

    def _watch(self, line: str) -> None:
        now = self._clock()
        self.ignored = None  # only at the end: a name can hold that line as well
        if job := _JOB.match(line):
            self._is_parallel = True
            self._work(int(job[2]), now, launched=job[1] == "launching")
        elif ignored := _IGNORED.search(line):
            self.ignored = int(ignored[1])
        elif not self._is_parallel and (step := _STEP.match(line)):
            self._finish_step(now)
            kind = step["kind"] or step["set"] or "TABLE DATA"
            entry = self._steps.get((kind, step["name"] or step["called"]))
            section = entry.section if entry else Section.NONE
            if section is Section.DATA and self._data_began is None:
                self._data_began = now
            if section is Section.POST_DATA and self._data_ended is None:
                self._data_ended = now
            self._step = (entry.number if entry else None, now)

    def _work(self, number: int, now: float, *, launched: bool) -> None:
        self._finish_step(now)
        entry = self._archive.by_number.get(number)
        is_data = entry is not None and entry.section is Section.DATA
        if launched:
            self._running[number] = now
            if is_data and self._data_began is None:
                self._data_began = now
            return
        self.seconds_of[number] = now - self._running.pop(number, now)
        if is_data:
            self._data_ended = now

    def _finish_step(self, now: float) -> None:
        number, began = self._step
        if number is not None:
            self.seconds_of[number] = now - began
        self._step = (None, now)

    @cached_property
    def _steps(self) -> dict[tuple[str, str], Entry]:
        """Each entry by how pg_restore calls it when it is alone."""
        return {
            (entry.kind, f"{entry.schema}.{entry.name}" if entry.schema else entry.name): entry
            for entry in self._archive.entries
        }


def _is_about(entry: Entry, error: _Error, statement: str) -> bool:
    """Tell whether an error can be one of the entry's."""
    if error.table is not None:
        return entry.kind == "TABLE DATA" and entry.name == error.table
    if not statement:
        return False
    return any(text and text.startswith(statement) for text in (entry.definition, entry.copy))
