"""``dag-sync judge``: say of a push whether all of it is sound.

This process is ours; strangers' code runs in the sandbox only. Its exit code is the verdict and
the only thing that ``publish`` believes, by Nomad's word. Findings are for humans.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from delivery import candidate as candidates
from delivery import exemptions, verdict
from delivery.policies import finding
from delivery.sandbox import Bounds, Ended, Sandbox
from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from delivery.settings import JudgeSettings
    from delivery.verdict import Exemption, Finding

log = get_logger(__name__)

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
SOUND, REFUSED, UNKNOWN = 0, 1, 4
"""Exit codes. 4 is not Python's own 1, so a crash of ours is never a verdict."""


def judge(settings: JudgeSettings, environ: Mapping[str, str], *, same_user: bool) -> int:
    """Judge the candidate of this run and return the exit code.

    ``same_user`` runs strangers' code as our own user: for trees one trusts, on a laptop.
    Raises Failure if nothing can be said about the push.
    """
    if not same_user and os.geteuid() != 0:
        raise WrongUse(
            "judge is not root, so it cannot run strangers' code as another user",
            "Run the task as root with the capabilities SETUID, SETGID and KILL; on a laptop, with "
            "a tree you trust, pass --same-user.",
        )
    run = candidates.folder(settings.incoming, settings.alloc_id)
    found = candidates.load(run)
    if found is None:
        raise Failure(
            f"{run} holds no candidate", "See the log of the fetch task: it did not finish."
        )
    if found.judged:
        log.info("nothing new: this commit was judged already", commit=found.commit)
        return SOUND
    if found.refused:
        return _tell(settings, found.commit, list(found.refused), [], [])
    tree = run / "tree"
    sandbox = Sandbox(
        None if same_user else (settings.uid, settings.gid),
        Bounds(
            seconds=settings.seconds,
            memory=settings.memory,
            processes=settings.processes,
            file_bytes=settings.file_bytes,
            output=settings.output,
        ),
        watched=(settings.alloc_dir, settings.task_dir),
    )
    log.info("judging", commit=found.commit)
    # However this process ends, the next step knows at once that it came to no verdict.
    ended = finding("judge", "", "the judge ended before it had looked at everything")
    _hand_over(settings, found.commit, "unknown", [ended], [])
    findings, unclear = _pipelines(settings, sandbox, tree)
    for more, also_unclear in (
        _models(settings, sandbox, tree),
        _dashboards(settings, sandbox, tree),
        _python(settings, sandbox, tree, environ),
    ):
        findings, unclear = findings + more, unclear + also_unclear
    departures, wrong = exemptions.read(tree, _files(tree))
    findings, used = exemptions.apply(findings, departures)
    return _tell(settings, found.commit, findings + wrong, unclear, used)


def _files(tree: Path) -> list[str]:
    """Return all files of the tree, by their paths in it."""
    return [path.relative_to(tree).as_posix() for path in sorted(tree.rglob("*")) if path.is_file()]


def _pipelines(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path
) -> tuple[list[Finding], list[Finding]]:
    """Check the pipeline files by the engine's own check; (against the push, unclear)."""
    files = sorted(str(path) for path in (tree / "pipelines").glob("*.yaml"))
    if not files:
        return [], []
    ended, unclear = _checked(
        settings, sandbox, tree, "pipeline", ["ingest", "check", "--json", *files]
    )
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


def _dashboards(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path
) -> tuple[list[Finding], list[Finding]]:
    """Hold the dashboards' files against each other and the marts; (against the push, unclear)."""
    if not (tree / "dashboards").is_dir():
        return [], []
    ended, unclear = _checked(
        settings, sandbox, tree, "dashboard", ["dashboards", "check", str(tree)]
    )
    lines = (line.partition(": ") for line in _relative(ended.stderr, tree).splitlines())
    found = [finding("dashboard", file, what) for file, _, what in lines if (tree / file).is_file()]
    return _found("dashboard", ended, unclear, found, tree)


def _checked(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path, rule: str, words: list[str]
) -> tuple[Ended, list[Finding]]:
    """Run a check of the platform's own, a module and its words; return what is unclear, too."""
    with sandbox.scratch() as scratch:
        ended = sandbox.run(
            [str(settings.python), "-I", "-B", "-m", *words],
            folder=scratch,
            environ=_environment(scratch),
        )
    if ended.cut or ended.code not in (SOUND, REFUSED):
        return ended, [_unclear(f"the check of rule {rule}", ended, tree)]
    return ended, []


def _found(
    rule: str, ended: Ended, unclear: list[Finding], found: list[Finding], tree: Path
) -> tuple[list[Finding], list[Finding]]:
    """Return what a check found: with its own words where it names no file."""
    if unclear:
        return [], unclear
    if ended.code == REFUSED and not found:
        found = [finding(rule, "", "it is refused", trace=_relative(ended.stderr, tree))]
    if not found:
        log.info("files are sound", rule=rule)
    return found, []


def _models(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path
) -> tuple[list[Finding], list[Finding]]:
    """Have dbt read its project, if there is one, without a database; (against the push, unclear).

    What only PostgreSQL can say of a model is said when it is built, beside what readers see.
    """
    if not (tree / PROJECT).is_file():
        return [], []
    with sandbox.scratch() as scratch:
        ended = sandbox.run(
            [str(settings.dbt), "--no-use-colors", "--quiet", "parse", "--no-partial-parse",
             "--project-dir", str(tree), "--profiles-dir", str(tree)],
            folder=scratch,
            environ=_environment(scratch)
            | {name: "1" for name in MODELS}  # numbers where numbers are wanted
            | {"DBT_TARGET_PATH": str(scratch / "target"), "DBT_LOG_PATH": str(scratch / "logs")},
        )  # fmt: skip
    if ended.cut or ended.code not in DBT_CODES:
        return [], [_unclear("dbt", ended, tree)]
    if ended.code:
        said = _relative(ended.stdout + ended.stderr, tree)
        named = [name for name in _PATH.findall(said) if (tree / name).is_file()]
        file = named[0] if named else PROJECT
        line = next(map(int, _LINE.findall(said)), 0) if named else 0
        return [finding("models", file, "dbt cannot read it", line=line, trace=said)], []
    log.info("files are sound", rule="models")
    return [], []


def _python(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path, environ: Mapping[str, str]
) -> tuple[list[Finding], list[Finding]]:
    """Read all texts, import and serialise the DAG files; (against the push, unclear)."""
    with sandbox.scratch() as scratch:
        ended = sandbox.run(
            [str(settings.python), "-I", "-B", "-m", "delivery.importer", str(tree),
             str(settings.file_seconds), settings.queues or "",
             *([str(settings.uid)] if sandbox.user else [])],
            folder=scratch,
            environ=_environment(scratch) | _airflow(scratch, environ, settings.file_seconds),
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
        return findings, []
    said = _relative(ended.stderr, tree)
    if ended.cut == "strayed":
        where = f"it writes to {ended.strayed}, which is Nomad's"
        return [*findings, finding("import-time", importing, where, trace=said)], []
    if ended.cut == "output":
        much = f"it prints more than {settings.output} bytes"
        return [*findings, finding("bounds", importing, much)], []
    if not ended.cut and ended.code < 0 and importing:
        # One file is read at a time, so what ends us with all of its user is that one.
        killed = f"reading it kills all processes of its user, or takes all memory ({ended.code})"
        return [*findings, finding("import", importing, killed, trace=said)], []
    unclear = [_unclear(importing, ended, tree)]
    if ended.cut == "time":
        slowest = sorted(seconds, key=lambda each: -seconds[each])[:5]
        unclear += [
            finding("bounds", each, f"reading it takes {seconds[each]} s of {settings.seconds} s")
            for each in slowest
        ]
    return findings, unclear


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


def _tell(
    settings: JudgeSettings,
    commit: str,
    refused: list[Finding],
    unclear: list[Finding],
    used: list[Exemption],
) -> int:
    """Log the verdict, hand the findings over and return the exit code."""
    code = REFUSED if refused else UNKNOWN if unclear else SOUND
    findings = verdict.bounded(refused + unclear)
    for line in (line for each in findings for line in each.lines()):
        log.warning(line)
    for each in used:
        log.info("departs from a policy", **asdict(each))
    outcome = {SOUND: "sound", REFUSED: "refused", UNKNOWN: "unknown"}[code]
    log.info("verdict", commit=commit, verdict=outcome, findings=len(findings))
    _hand_over(settings, commit, outcome, findings, used)
    return code


def _hand_over(
    settings: JudgeSettings,
    commit: str,
    outcome: str,
    findings: list[Finding],
    used: list[Exemption],
) -> None:
    value = {
        "commit": commit,
        "verdict": outcome,
        "findings": [asdict(each) for each in findings],
        "exemptions": [asdict(each) for each in used],
    }
    try:
        verdict.write_json(settings.alloc_dir / "data" / "findings.json", value)
    except OSError as error:  # strangers can put anything there; the verdict is the exit code
        log.warning("findings could not be handed over", error=str(error))


def _environment(scratch: Path) -> dict[str, str]:
    """Return what every child sees: nothing of ours."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        # A thread a core would use up the address space that a process may take.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",
    }


def _airflow(scratch: Path, environ: Mapping[str, str], file_seconds: int) -> dict[str, str]:
    """Return Airflow's settings: the platform's airflow.cfg and [core], which hold no secrets.

    With a home and logs of its own, and without a database.
    """
    core = {
        name: value
        for name, value in environ.items()
        if re.fullmatch(r"AIRFLOW_CONFIG|AIRFLOW__CORE__[A-Z_]+", name)
        and not name.endswith(("_CMD", "_SECRET", "_KEY"))
    }
    return {
        **core,
        "AIRFLOW_HOME": str(scratch),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(scratch / "logs"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": str(file_seconds),
        # The frames below the file's own would hide its line.
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": str(verdict.MAX_TRACE),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nonexistent/airflow.db",
        # As in the DAG processor's children: a client of Airflow, not a part of it.
        "_AIRFLOW_PROCESS_CONTEXT": "client",
    }


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
