"""All that is asked of a tree: of a push by ``judge``, of a folder at a desk by ``check``.

The tree is whole and read-only (delivery.checkout). Each part looks at it on its own; strangers'
code runs in the sandbox only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from delivery import exemptions, surroundings, verdict
from delivery.policies import finding
from delivery.sandbox import Bounds
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from delivery.sandbox import Ended, Sandbox
    from delivery.settings import GateSettings
    from delivery.verdict import Exemption, Finding

log = get_logger(__name__)

SOUND, REFUSED, UNKNOWN = 0, 1, 4
"""Exit codes. 4 is not Python's own 1, so a crash of ours is never a verdict."""
OUTCOMES = {SOUND: "sound", REFUSED: "refused", UNKNOWN: "unknown"}
PROJECT = "dbt_project.yml"
DBT_CODES = (0, 1, 2)  # done; something failed; the project or its settings cannot be read
# What profiles.yml may ask the environment for (transform.build): in the gate nothing is behind it.
MODELS = (
    "MODELS_HOST",
    "MODELS_PORT",
    "MODELS_USER",
    "MODELS_DATABASE",
    "MODELS_SCHEMA",
    "DBT_ENV_SECRET_MODELS_PASSWORD",
)
# How dbt names the file and the line of what it cannot read.
_PATH = re.compile(r"\(?([\w./-]+\.(?:sql|yml|yaml|csv|md))\b")
_LINE = re.compile(r"\bline (\d+)")


@dataclass(frozen=True)
class Place:
    """A tree, and what looks at it; ``environ`` may hold Airflow's settings."""

    settings: GateSettings
    sandbox: Sandbox
    tree: Path
    dbt: Path
    environ: Mapping[str, str]


class Seen(NamedTuple):
    """What a part found against the tree, and what it could not look at."""

    against: list[Finding]
    unclear: list[Finding]


@dataclass(frozen=True)
class Conclusion:
    """What is known of a tree when all parts have looked; ``used`` are its exemptions."""

    against: list[Finding]
    unclear: list[Finding]
    used: list[Exemption]

    @property
    def code(self) -> int:
        """SOUND, REFUSED or UNKNOWN."""
        return REFUSED if self.against else UNKNOWN if self.unclear else SOUND

    @property
    def findings(self) -> list[Finding]:
        """All of them, sorted and bounded."""
        return verdict.bounded(self.against + self.unclear)


def bounds(settings: GateSettings) -> Bounds:
    """Return what a part may take."""
    return Bounds(
        seconds=settings.seconds,
        memory=settings.memory,
        processes=settings.processes,
        file_bytes=settings.file_bytes,
        output=settings.output,
    )


def conclude(tree: Path, seen: Iterable[Seen]) -> Conclusion:
    """Put together what the parts have seen, less what the tree's exemptions cover."""
    parts = list(seen)
    departures, wrong = exemptions.read(tree, _files(tree))
    against, used = exemptions.apply([each for part in parts for each in part.against], departures)
    return Conclusion(against + wrong, [each for part in parts for each in part.unclear], used)


def _files(tree: Path) -> list[str]:
    """Return all files of the tree, by their paths in it."""
    return [path.relative_to(tree).as_posix() for path in sorted(tree.rglob("*")) if path.is_file()]


def _pipelines(place: Place) -> Seen:
    """Check the pipeline files by the engine's own check."""
    tree = place.tree
    files = sorted(str(path) for path in (tree / "pipelines").glob("*.yaml"))
    if not files:
        return Seen([], [])
    ended, unclear = _checked(place, "pipeline", ["ingest", "check", "--json", *files])
    problems = verdict.parse_json(ended.stdout)
    found = [
        finding(
            "pipeline",
            _strip(str(each.get("file")), tree),
            _strip(f"{each.get('key')}: {each.get('message')}", tree),
            line=each.get("line", 0),
        )
        for each in (problems if isinstance(problems, list) else [])
        if isinstance(each, dict)
    ]
    return _found("pipeline", ended, unclear, found, tree)


def _dashboards(place: Place) -> Seen:
    """Hold the dashboards' files against each other and the marts."""
    tree = place.tree
    if not (tree / "dashboards").is_dir():
        return Seen([], [])
    ended, unclear = _checked(place, "dashboard", ["dashboards", "check", str(tree)])
    lines = (line.partition(": ") for line in _relative(ended.stderr, tree).splitlines())
    found = [finding("dashboard", file, what) for file, _, what in lines if (tree / file).is_file()]
    return _found("dashboard", ended, unclear, found, tree)


def _checked(place: Place, rule: str, words: list[str]) -> tuple[Ended, list[Finding]]:
    """Run a check of the platform's own, a module and its words; return what is unclear, too."""
    with place.sandbox.scratch() as scratch:
        ended = place.sandbox.run(
            [str(place.settings.python), "-I", "-B", "-m", *words],
            folder=scratch,
            environ=surroundings.plain(scratch),
        )
    if ended.cut or ended.code not in (SOUND, REFUSED):
        return ended, [_unclear(f"the check of rule {rule}", ended, place.tree)]
    return ended, []


def _found(
    rule: str, ended: Ended, unclear: list[Finding], found: list[Finding], tree: Path
) -> Seen:
    """Return what a check found: with its own words where it names no file."""
    if unclear:
        return Seen([], unclear)
    if ended.code == REFUSED and not found:
        found = [finding(rule, "", "it is refused", trace=_relative(ended.stderr, tree))]
    if not found:
        log.info("files are sound", rule=rule)
    return Seen(found, [])


def _models(place: Place) -> Seen:
    """Have dbt read its project, if there is one, without a database.

    What only PostgreSQL can say of a model is said when it is built, beside what readers see.
    """
    tree = place.tree
    if not (tree / PROJECT).is_file():
        return Seen([], [])
    with place.sandbox.scratch() as scratch:
        ended = place.sandbox.run(
            [str(place.dbt), "--no-use-colors", "--quiet", "parse", "--no-partial-parse",
             "--project-dir", str(tree), "--profiles-dir", str(tree)],
            folder=scratch,
            environ=surroundings.plain(scratch)
            | {name: "1" for name in MODELS}  # numbers where numbers are wanted
            | {"DBT_TARGET_PATH": str(scratch / "target"), "DBT_LOG_PATH": str(scratch / "logs")},
        )  # fmt: skip
    if ended.cut or ended.code not in DBT_CODES:
        return Seen([], [_unclear("dbt", ended, tree)])
    if ended.code:
        said = _relative(ended.stdout + ended.stderr, tree)
        named = [name for name in _PATH.findall(said) if (tree / name).is_file()]
        file = named[0] if named else PROJECT
        line = next(map(int, _LINE.findall(said)), 0) if named else 0
        against = finding("models", file, "dbt cannot read it", line=line, trace=said)
        return Seen([against], [])
    log.info("files are sound", rule="models")
    return Seen([], [])


def _python(place: Place) -> Seen:
    """Read all texts, import and serialise the DAG files."""
    settings, sandbox, tree = place.settings, place.sandbox, place.tree
    with sandbox.scratch() as scratch:
        ended = sandbox.run(
            [str(settings.python), "-I", "-B", "-m", "delivery.importer", str(tree),
             str(settings.file_seconds), settings.queues or "", settings.environments or "",
             settings.containers or "", *([str(sandbox.user[0])] if sandbox.user else [])],
            folder=scratch,
            environ=surroundings.airflow(scratch, place.environ, settings.file_seconds),
        )  # fmt: skip
    findings: list[Finding] = []
    complete: dict[str, Any] | None = None
    importing, seconds = "", dict[str, float]()
    for line in ended.stdout.splitlines():
        match verdict.parse_json(line):
            case {"importing": str(file)}:
                importing = verdict.clean(file)
            case {"seconds": [str(file), int() | float() as taken]}:
                seconds[verdict.clean(file)] = taken
            case {"finding": dict() as found}:
                findings += verdict.findings_from([found])
            case {"complete": dict() as said_last}:
                complete = said_last
    findings = [_stripped(each, tree) for each in findings]
    if not ended.cut and ended.code == 0 and complete is not None:
        log.info("DAG files were imported", **{k: verdict.clean(v) for k, v in complete.items()})
        return Seen(findings, [])
    said = _relative(ended.stderr, tree)
    if ended.cut == "strayed":
        where = f"it writes to {ended.strayed}, which is Nomad's"
        return Seen([*findings, finding("import-time", importing, where, trace=said)], [])
    if ended.cut == "output":
        much = f"it prints more than {settings.output} bytes"
        return Seen([*findings, finding("bounds", importing, much)], [])
    if not ended.cut and ended.code < 0 and importing:
        # One file is read at a time, so what ends us with all of its user is that one.
        killed = f"reading it kills all processes of its user, or takes all memory ({ended.code})"
        return Seen([*findings, finding("import", importing, killed, trace=said)], [])
    unclear = [_unclear(importing, ended, tree)]
    if ended.cut == "time":
        slowest = sorted(seconds, key=lambda each: -seconds[each])[:5]
        unclear += [
            finding("bounds", each, f"reading it takes {seconds[each]} s of {settings.seconds} s")
            for each in slowest
        ]
    return Seen(findings, unclear)


PARTS: Mapping[str, Callable[[Place], Seen]] = {
    "pipeline files": _pipelines,
    "models": _models,
    "dashboards": _dashboards,
    "DAGs": _python,
}
"""What looks at a tree, by what it looks at."""


def _unclear(where: str, ended: Ended, tree: Path) -> Finding:
    reason = {
        "time": "took longer than its time bound",
        "output": "printed more than is taken",
        "strayed": f"wrote to {ended.strayed}, which it must not",
        "": f"ended with {ended.code} before it had looked at everything",
    }[ended.cut]
    said = "" if ended.cut == "output" else _relative(ended.stderr, tree)
    at = f" at {where}" if where else ""
    return finding("judge", "", f"the check {reason}{at}", trace=said)


def _stripped(found: Finding, tree: Path) -> Finding:
    return replace(
        found,
        what=_strip(found.what, tree),
        trace=tuple(_strip(each, tree) for each in found.trace),
    )


def _strip(text: str, tree: Path) -> str:
    return text.replace(f"{tree}/", "")


def _relative(raw: bytes, tree: Path) -> str:
    """Return the end of untrusted output with paths as the analysts know them."""
    return _strip(raw[-8192:].decode(errors="replace"), tree)
