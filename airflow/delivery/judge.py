"""``dag-sync judge``: say of a push whether all of it is sound.

This process is ours; strangers' code runs in the sandbox only. Its exit code is the verdict and
the only thing that ``publish`` believes, by Nomad's word. Findings are for humans.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from typing import TYPE_CHECKING

from delivery import candidate as candidates
from delivery import verdict
from delivery.sandbox import Bounds, Ended, Sandbox
from delivery.verdict import Finding
from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from delivery.settings import JudgeSettings

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
        return _tell(settings, found.commit, list(found.refused), [])
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
    findings, unclear = _pipelines(settings, sandbox, tree)
    for more, also_unclear in (
        _models(settings, sandbox, tree),
        _dashboards(settings, sandbox, tree),
        _dags(settings, sandbox, tree, environ),
    ):
        findings, unclear = findings + more, unclear + also_unclear
    return _tell(settings, found.commit, findings, unclear)


def _pipelines(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path
) -> tuple[list[Finding], list[Finding]]:
    """Check the pipeline files by the engine's own check; (against the push, unclear)."""
    files = sorted(str(path) for path in (tree / "pipelines").glob("*.yaml"))
    if not files:
        return [], []
    return _checked(settings, sandbox, tree, "pipelines", ["ingest", "check", *files])


def _dashboards(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path
) -> tuple[list[Finding], list[Finding]]:
    """Hold the dashboards' files against each other and the marts; (against the push, unclear)."""
    if not (tree / "dashboards").is_dir():
        return [], []
    return _checked(settings, sandbox, tree, "dashboards", ["dashboards", "check", str(tree)])


def _checked(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path, folder: str, words: list[str]
) -> tuple[list[Finding], list[Finding]]:
    """Run a check of the platform's own, a module and its words, over the files of ``folder``."""
    with sandbox.scratch() as scratch:
        ended = sandbox.run(
            [str(settings.python), "-I", "-B", "-m", *words],
            folder=scratch,
            environ=_environment(scratch),
        )
    said = _relative(ended.stderr, tree)
    if ended.cut or ended.code not in (SOUND, REFUSED):
        return [], [_unclear(folder, ended, said)]
    if ended.code == REFUSED:
        return [Finding.of(folder, f"the files of {folder} do not pass", said)], []
    log.info("files are sound", folder=folder)
    return [], []


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
    said = _relative(ended.stdout + ended.stderr, tree)
    if ended.cut or ended.code not in DBT_CODES:
        return [], [_unclear(PROJECT, ended, said)]
    if ended.code:
        return [Finding.of(PROJECT, "dbt cannot read the project", said)], []
    log.info("the dbt project can be read")
    return [], []


def _dags(
    settings: JudgeSettings, sandbox: Sandbox, tree: Path, environ: Mapping[str, str]
) -> tuple[list[Finding], list[Finding]]:
    """Import and serialise the DAG files; (against the push, unclear)."""
    root = tree / settings.dags
    if not root.is_dir():
        return [Finding.of(settings.dags, "the folder of the DAGs is not in the push")], []
    with sandbox.scratch() as scratch:
        ended = sandbox.run(
            [str(settings.python), "-I", "-B", "-m", "delivery.importer", str(root),
             str(settings.file_seconds), settings.queues or "",
             *([str(settings.uid)] if sandbox.user else [])],
            folder=scratch,
            environ=_environment(scratch) | _airflow(scratch, environ, settings.file_seconds),
        )  # fmt: skip
    findings: list[Finding] = []
    complete, importing = None, ""
    for line in ended.stdout.splitlines():
        value = verdict.parse_json(line)
        if not isinstance(value, dict):
            continue
        if isinstance(value.get("importing"), str):
            importing = verdict.clean(value["importing"])
        findings += verdict.findings_from([value["finding"]] if "finding" in value else None)
        complete = value.get("complete", complete)
    findings = [
        Finding(
            f"{settings.dags}/{f.file}" if settings.dags else f.file,
            _strip(f.message, tree),
            tuple(_strip(line, tree) for line in f.trace),
        )
        for f in findings
    ]
    said = _relative(ended.stderr, tree)
    if ended.cut in ("output", "strayed"):
        return [*findings, _unclear(importing, ended, said)], []
    if ended.cut or ended.code != 0 or not isinstance(complete, dict):
        return findings, [_unclear(importing, ended, said)]
    log.info("DAG files were imported", **{k: verdict.clean(v) for k, v in complete.items()})
    return findings, []


def _unclear(where: str, ended: Ended, said: str) -> Finding:
    reason = {
        "time": "took longer than its time bound",
        "output": "printed more than is taken",
        "strayed": "wrote into Nomad's folders, which it must not",
        "": f"ended with {ended.code} before it had looked at everything",
    }[ended.cut]
    return Finding.of(where, f"the check {reason}", "" if ended.cut == "output" else said)


def _tell(
    settings: JudgeSettings, commit: str, refused: list[Finding], unclear: list[Finding]
) -> int:
    """Log the verdict, hand the findings over and return the exit code."""
    code = REFUSED if refused else UNKNOWN if unclear else SOUND
    findings = verdict.bounded(refused + unclear)
    for line in (line for finding in findings for line in finding.lines()):
        log.warning(line)
    outcome = {SOUND: "sound", REFUSED: "refused", UNKNOWN: "unknown"}[code]
    log.info("verdict", commit=commit, verdict=outcome, findings=len(findings))
    value = {"commit": commit, "verdict": outcome, "findings": [asdict(f) for f in findings]}
    try:
        verdict.write_json(settings.alloc_dir / "data" / "findings.json", value)
    except OSError as error:  # strangers can put anything there; the verdict is the exit code
        log.warning("findings could not be handed over", error=str(error))
    return code


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
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "sqlite:////nonexistent/airflow.db",
        # As in the DAG processor's children: a client of Airflow, not a part of it.
        "_AIRFLOW_PROCESS_CONTEXT": "client",
    }


def _strip(text: str, tree: Path) -> str:
    return text.replace(f"{tree}/", "")


def _relative(raw: bytes, tree: Path) -> str:
    """Return the end of untrusted output with paths as the analysts know them."""
    return _strip(raw[-8192:].decode(errors="replace"), tree)
