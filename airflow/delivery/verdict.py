"""Findings and verdicts: what analysts and operators are told, and how it is kept.

The text of a finding comes from strangers' code, so it is bounded and stripped here, once, on
every way in.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
import unicodedata
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Outcome = Literal["sound", "refused", "unknown"]

MAX_FINDINGS = 200
MOST_ALIKE = 10
"""How many findings of one file and rule are kept: 2,000 files with as many are 5 MB."""
MAX_LINE = 300
MAX_TRACE = 20
MAX_LINES = 10**7
MAX_FILE = 4 * 1024 * 1024
"""Most bytes that are read of a findings or verdict file: all findings fit twice."""
UNKNOWN_TRIES = 3
"""How often a commit is judged again when nothing is known about it."""


def clean(text: object, limit: int = MAX_LINE) -> str:
    """Return ``text`` as one line of at most ``limit`` characters.

    Without control, format (bidirectional overrides among them) and surrogate characters.
    """
    line = str(text)[: limit * 4]
    line = "".join(
        " " if c in "\t\n\r\u2028\u2029" else c
        for c in line
        if c in "\t\n\r" or not unicodedata.category(c).startswith("C")
    )
    return line if len(line) <= limit else line[: limit - 1] + "…"


@dataclass(frozen=True, order=True)
class Finding:
    """One reason against a push.

    ``file`` is a path in the push, or "" for all of it; ``line`` counts from 1, 0 is no line;
    ``rule`` is one of policies.toml. ``what`` and ``how`` to put it right are a line each,
    ``trace`` are lines of a traceback or of another program.
    """

    file: str
    line: int
    rule: str
    what: str
    how: str = ""
    trace: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, file: object, what: object, trace: object = (), *,
        line: object = 0, rule: object = "", how: object = "",
    ) -> Finding:  # fmt: skip
        """Return a finding from untrusted text, cleaned and bounded."""
        lines = trace.splitlines() if isinstance(trace, str) else trace
        if not isinstance(lines, list | tuple):
            lines = []
        said = clean(what) or "no reason given"
        kept = [clean(each) for each in lines[-MAX_TRACE:]]
        return cls(
            clean(file),
            line if type(line) is int and 0 < line < MAX_LINES else 0,
            clean(rule),
            said,
            clean(how),
            () if kept == [said] else tuple(kept),
        )

    def lines(self) -> list[str]:
        """Return the finding as lines for a log or a terminal."""
        where = f"{self.file or 'push'}{f':{self.line}' if self.line else ''}"
        how = [f"    HINT: {self.how}"] if self.how else []
        rule = f"{self.rule}: " if self.rule else ""
        return [f"{where}: {rule}{self.what}", *how, *(f"    | {each}" for each in self.trace)]


def bounded(findings: list[Finding]) -> list[Finding]:
    """Return them sorted, each once, and at most MAX_FINDINGS: the first says how many are left."""
    found = sorted(set(findings))
    if len(found) <= MAX_FINDINGS:
        return found
    left = len(found) - MAX_FINDINGS + 1
    return [Finding("", 0, "", f"{left} more findings were left out"), *found[: MAX_FINDINGS - 1]]


def thinned(findings: Iterable[Finding]) -> list[Finding]:
    """Return each once, and MOST_ALIKE of a file and rule: one more says how many are left out.

    Unlike :func:`bounded` it hides no rule of any file, so exemptions may follow.
    """
    alike = defaultdict[tuple[str, str], list[Finding]](list)
    for each in dict.fromkeys(findings):
        alike[each.file, each.rule].append(each)
    kept = []
    for found in alike.values():
        kept += found[:MOST_ALIKE]
        if more := found[MOST_ALIKE:]:
            line = min(each.line for each in more)
            what = f"{len(more)} more stand from here on"
            kept.append(replace(more[0], line=line, what=what, trace=()))
    return kept


def findings_from(value: object) -> list[Finding]:
    """Return the findings of untrusted JSON; anything of another shape is dropped."""
    if not isinstance(value, list):
        return []
    found = [
        Finding.of(
            item.get("file", ""),
            item.get("what", ""),
            item.get("trace", []),
            line=item.get("line", 0),
            rule=item.get("rule", ""),
            how=item.get("how", ""),
        )
        for item in value[: 10 * MAX_FINDINGS]
        if isinstance(item, dict)
    ]
    return bounded(found)


@dataclass(frozen=True, order=True)
class Exemption:
    """A line of the push by which its file departs from a policy, and its reason."""

    file: str
    line: int
    rule: str
    because: str


def exemptions_from(value: object) -> list[Exemption]:
    """Return the exemptions of untrusted JSON; anything of another shape is dropped."""
    if not isinstance(value, list):
        return []
    found = {
        Exemption(
            clean(item.get("file", "")),
            item["line"] if type(item.get("line")) is int else 0,
            clean(item.get("rule", "")),
            clean(item.get("because", "")),
        )
        for item in value[:MAX_FINDINGS]
        if isinstance(item, dict)
    }
    return sorted(found)


@dataclass(frozen=True)
class Verdict:
    """What is known about one commit.

    ``judged`` says that it need not be judged again: it is sound or refused, or nothing was
    known about it UNKNOWN_TRIES times. ``time`` is ISO 8601 in UTC. ``live`` is the analysts'
    commit that Airflow follows after this verdict. ``exemptions`` are what the push departs from.
    """

    commit: str
    outcome: Outcome
    reason: str
    judged: bool
    attempts: int
    time: str
    live: str
    findings: tuple[Finding, ...] = ()
    exemptions: tuple[Exemption, ...] = ()


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as it is stored and printed: ``outcome`` is called ``verdict``."""
    value = asdict(verdict)
    return {"commit": value.pop("commit"), "verdict": value.pop("outcome"), **value}


def store(path: Path, verdict: Verdict) -> None:
    """Replace the verdict at ``path`` in one step that survives a power cut."""
    write_json(path, as_json(verdict))


def load(path: Path) -> Verdict | None:
    """Return the verdict at ``path``; None if there is none or it cannot be read."""
    return from_json(read_json(path))


def from_json(value: object) -> Verdict | None:
    """Return the verdict of untrusted JSON, cleaned; None if it is of another shape."""
    if not isinstance(value, dict) or value.get("verdict") not in ("sound", "refused", "unknown"):
        return None
    attempts = value.get("attempts")
    return Verdict(
        commit=clean(value.get("commit", "")),
        outcome=value["verdict"],
        reason=clean(value.get("reason", "")),
        judged=value.get("judged") is True,
        attempts=attempts if isinstance(attempts, int) else 0,
        time=clean(value.get("time", "")),
        live=clean(value.get("live", "")),
        findings=tuple(findings_from(value.get("findings"))),
        exemptions=tuple(exemptions_from(value.get("exemptions"))),
    )


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` to ``path`` by a new file and a rename; readable by all, never a link."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            json.dump(value, file, ensure_ascii=False, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read_json(path: Path) -> object:
    """Return the JSON at ``path``; None if it is not a readable, regular, bounded JSON file.

    Safe on a path that strangers may have put there: follows no link and waits for no pipe.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            raw = file.read(MAX_FILE + 1)
    except OSError:
        return None
    return parse_json(raw) if len(raw) <= MAX_FILE else None


def parse_json(raw: bytes) -> object:
    """Return untrusted JSON, or None: never raises on strangers' input."""
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return value
