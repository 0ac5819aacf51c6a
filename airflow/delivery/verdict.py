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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Outcome = Literal["sound", "refused", "unknown"]

MAX_FINDINGS = 50
MAX_LINE = 300
MAX_TRACE = 20
MAX_FILE = 1024 * 1024
"""Most bytes that are read of a findings or verdict file: 50 findings fit twice."""
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


@dataclass(frozen=True)
class Finding:
    """One reason against a push: the file (or ``""``), one line, and lines of a traceback."""

    file: str
    message: str
    trace: tuple[str, ...] = ()

    @classmethod
    def of(cls, file: object, message: object, trace: object = ()) -> Finding:
        """Return a finding from untrusted text, cleaned and bounded."""
        lines = trace.splitlines() if isinstance(trace, str) else trace
        if not isinstance(lines, list | tuple):
            lines = []
        kept = [clean(line) for line in lines[-MAX_TRACE:]]
        return cls(clean(file), clean(message) or "no reason given", tuple(kept))

    def lines(self) -> list[str]:
        """Return the finding as lines for a log or a terminal."""
        return [f"{self.file or 'push'}: {self.message}", *(f"    | {t}" for t in self.trace)]


def bounded(findings: list[Finding]) -> list[Finding]:
    """Return at most MAX_FINDINGS, the last one saying how many were left out."""
    if len(findings) <= MAX_FINDINGS:
        return findings
    left = len(findings) - MAX_FINDINGS + 1
    return [*findings[: MAX_FINDINGS - 1], Finding("", f"{left} more findings were left out")]


def findings_from(value: object) -> list[Finding]:
    """Return the findings of untrusted JSON; anything of another shape is dropped."""
    if not isinstance(value, list):
        return []
    found = [
        Finding.of(item.get("file", ""), item.get("message", ""), item.get("trace", []))
        for item in value[: 10 * MAX_FINDINGS]
        if isinstance(item, dict)
    ]
    return bounded(found)


@dataclass(frozen=True)
class Verdict:
    """What is known about one commit.

    ``judged`` says that it need not be judged again: it is sound or refused, or nothing was
    known about it UNKNOWN_TRIES times. ``time`` is ISO 8601 in UTC. ``live`` is the analysts'
    commit that Airflow follows after this verdict.
    """

    commit: str
    outcome: Outcome
    reason: str
    judged: bool
    attempts: int
    time: str
    live: str
    findings: tuple[Finding, ...] = ()


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return the verdict as it is stored and printed: ``outcome`` is called ``verdict``."""
    value = asdict(verdict)
    return {"commit": value.pop("commit"), "verdict": value.pop("outcome"), **value}


def store(path: Path, verdict: Verdict) -> None:
    """Replace the verdict at ``path`` in one step that survives a power cut."""
    write_json(path, as_json(verdict))


def load(path: Path) -> Verdict | None:
    """Return the verdict at ``path``; None if there is none or it cannot be read."""
    value = read_json(path)
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
