"""The blocks of pages for people, and a desk at which tests type them as they stand there."""

from __future__ import annotations

import re
import subprocess
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from scripts.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PART = re.compile(
    r"^ *```(?P<language>\w+)\n(?P<text>.*?)^ *```$|^#{1,3} (?P<heading>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)
# A block that is no command is a file, which the line above it names.
_STEP = re.compile(
    r"^(?:(?P<verb>Write|Add to) `(?P<file>[^`]+)`:\n\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_ENDED = "the desk's line ended"


@cache
def blocks() -> dict[str, list[str]]:
    """Return the runbook's commands and SQL, by the heading that stands above them."""
    found: dict[str, list[str]] = {}
    heading = ""
    for part in _PART.finditer((ROOT / "docs/runbook.md").read_text()):
        if part["heading"]:
            heading = part["heading"]
        elif part["language"] in {"sh", "sql"}:
            found.setdefault(heading, []).append(textwrap.dedent(part["text"]))
    return found


def section(heading: str) -> list[str]:
    """Return all blocks below ``heading``."""
    return blocks()[heading]


def block(heading: str, number: int) -> str:
    """Return one block below ``heading``, the first being 0."""
    return blocks()[heading][number]


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return ``text`` with each of the page's examples replaced, all of which it has."""
    for example, value in values.items():
        assert example in text, f"{example} is not in:\n{text}"
        text = text.replace(example, value)
    return text


@dataclass(frozen=True)
class Step:
    """A block of a page: commands, or what to write into ``file`` or, if it ``adds``, behind it."""

    language: str
    text: str
    file: str
    adds: bool


def steps(page: Path) -> list[Step]:
    """Return the blocks of ``page`` in order."""
    return [
        Step(part["language"], part["text"], part["file"] or "", part["verb"] == "Add to")
        for part in _STEP.finditer(page.read_text())
    ]


@dataclass(frozen=True)
class Desk:
    """A shell at which somebody types; what is exported or defined there stays."""

    shell: subprocess.Popen[str]
    folder: Path

    def follow(self, page: Path, values: Mapping[str, str], at: Path, *, but: str = "") -> str:
        """Do what ``page`` says, step by step, with its examples replaced; return what is shown.

        Its files are below the folder ``at``. A line ``but`` of its commands is left out.
        """
        shown = ""
        left = dict(values)
        for step in steps(page):
            text = step.text
            for example in [each for each in left if each in text]:
                text = text.replace(example, left.pop(example))
            if step.language == "sh":
                shown += self.type("\n".join(line for line in text.split("\n") if line != but))
            elif step.file:
                with (at / step.file).open("a" if step.adds else "w") as file:
                    file.write(text)
        assert not left, f"{page} does not have {list(left)}"
        return shown

    def type(self, text: str, *, given: str = "", may_fail: bool = False) -> str:
        """Type ``text``, with ``given`` at its standard input, and return what is shown.

        Fails if one of its commands does.
        """
        assert self.shell.stdin
        assert self.shell.stdout
        (self.folder / "typed").write_text(text)
        (self.folder / "given").write_text(given)
        self.shell.stdin.write(
            f"failed=0; trap failed=1 ERR; . {self.folder}/typed < {self.folder}/given;"
            f' trap - ERR; echo; echo "{_ENDED}: $failed"\n'
        )
        self.shell.stdin.flush()
        said = []
        while not (line := self.shell.stdout.readline()).startswith(_ENDED):
            assert line, f"the shell ended:\n{text}\n{''.join(said)}"
            said.append(line)
        shown = "".join(said)
        assert may_fail or line == f"{_ENDED}: 0\n", f"{text}\n{shown}"
        return shown


@contextmanager
def desk(at: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[Desk]:
    """Sit down at ``at``, with nothing but ``environment``; ``folder`` is the desk's own."""
    with subprocess.Popen(
        ["bash", "-E", "-o", "pipefail"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, cwd=at, env=dict(environment),
    ) as shell:  # fmt: skip
        try:
            yield Desk(shell, folder)
        finally:
            shell.kill()
