"""Reads and imports DAG files.

``python -I -m delivery.importer TREE SECONDS QUEUES ENVIRONMENTS CONTAINERS [UID]``

Strangers' code runs here, so this runs in the sandbox. It prints one JSON object a line:
``{"importing": file}`` before each file, ``{"seconds": [file, s]}`` after it, ``{"finding": …}``,
and at the very end ``{"complete": {"files": n, "dags": n}}``. Without that last line nothing is
proven.

What is asked of the DAGs is decided in this process, in which no stranger's code runs: from the
text of the files (delivery.reading) and from what Airflow would keep of each DAG
(delivery.rules). That comes from a process for each file, forked when Airflow is loaded and warm,
as an answer in a file of its own, which no other file can know and which is not open while
strangers' code runs: one that crashes, hangs, ends early or leaves something behind speaks for
itself only.

QUEUES are those that a worker serves, with commas; if it is empty, a task may name any. So are
ENVIRONMENTS those that environments.toml may speak of, and CONTAINERS those that files may run.
With UID, and only if it runs as that user, everything else of that user is killed after each file:
a fork bomb takes no process from the next one, and a file that left a process is told so.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import secrets
import signal
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from delivery import credentials, environments, limits, prctl, reading, rules
from delivery.policies import finding
from delivery.sandbox import alive
from delivery.verdict import parse_json, thinned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from delivery.reading import Reading
    from delivery.verdict import Finding

BUNDLE = "analysts"
_MAX_ANSWER = 8 * 1024 * 1024
# Airflow's own time-out speaks first, with a traceback; this one is for what does not listen.
_GRACE = 5.0
FRAMES = sys.getrecursionlimit()
_POLL = 0.002
# What Airflow imports only for a first file: read once before all forks, not in each.
_WARM = """
from airflow.sdk import DAG, dag, task
from airflow.providers.standard.operators.python import PythonOperator
with DAG("warm", schedule="@daily", tags=["warm"]):
    @task
    def read(): ...
    PythonOperator(task_id="call", python_callable=print) << read()
"""
_FRAME = re.compile(r'^\s*(?:File|>) "?([^"]+?)"?, line (\d+)')


# What is imported for all files at once, where any of them imports it: it is installed with the
# platform, and does nothing but be there.
_KEPT = re.compile(
    r"airflow\.(providers|sdk)\.|(httpx|numpy|pandas|pendulum|psycopg|requests|sqlalchemy)(\.|$)"
)


class Airflow(NamedTuple):
    """The DAG files as Airflow finds them, and what examines one."""

    files: list[str]
    examine: Callable[[str], dict[str, Any]]


class There(NamedTuple):
    """What a tree may ask for: the names that there are, of each kind; of an empty one, any."""

    queues: list[str]
    environments: list[str]
    containers: list[str]


def main(root: Path, file_seconds: float, there: There, alone_as: int = 0) -> None:
    """Examine every DAG file of the tree ``root``; findings go to the real stdout."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.set_inheritable(results.fileno(), False)
    os.dup2(2, 1)  # what Airflow and strangers print is noise
    # Children cannot look into this process or into each other.
    prctl.set_to(prctl.DUMPABLE, 0)
    prctl.set_to(prctl.CHILD_SUBREAPER, 1)
    airflow = _airflow(root)
    files = [
        path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()
    ]
    leaked = credentials.scan(root, files)
    known = reading.read(root, [file for file in files if file.endswith(".py")])
    sys.setrecursionlimit(5 * FRAMES)  # names are followed through names
    _import_once(known.imports())
    claims: dict[str, list[str]] = {}
    findings = [*leaked, *known.findings]
    for path in airflow.files:
        file = Path(path).relative_to(root).as_posix()
        _say(results, {"importing": file})
        if not file.endswith(".py"):
            packed = "it is no text, so nobody sees what it does: put the files themselves there"
            findings.append(finding("import", file, packed))
            continue
        began = time.monotonic()
        answer = _apart(file, partial(airflow.examine, path), results, file_seconds + _GRACE)
        left = _clear(alone_as)
        findings += judged(root, file, answer, known, there.queues)
        if left:
            said = f"it leaves a process behind: {left}"
            findings.append(finding("import", file, said))
        for name in filter(None, map(rules.dag_id, answer.dags)):
            claims.setdefault(name, []).append(file)
        _say(results, {"seconds": [file, round(time.monotonic() - began, 1)]})
    findings += rules.of_ids(claims, known)
    ids = set(claims)
    for prefix, folder in rules.RESERVED.items():
        for described in sorted((root / folder).glob("*.yaml")):
            ids.add(f"{prefix}{described.stem}")
            file = described.relative_to(root).as_posix()
            findings += rules.of_schedule(file, described)
            if folder == limits.CONTAINERS:
                findings += rules.of_container(file, described, there.containers)
    findings += environments.of_tree(root, ids, there.environments)
    for each in thinned(findings):
        _say(results, {"finding": vars(each)})
    _say(results, {"complete": {"files": len(airflow.files), "dags": len(claims)}})


class Answer(NamedTuple):
    """What a process said of its file: its DAGs as data, tracebacks; or what was wrong with it."""

    dags: list[Any]
    errors: list[str]
    wrong: list[Finding]


def judged(
    root: Path, file: str, answer: Answer, known: Reading, queues: list[str]
) -> list[Finding]:
    """Return what is wrong with one file."""
    findings = [*answer.wrong, *known.at_import(file), *rules.of_schedules(file, known)]
    findings += (_of_traceback(root, file, said) for said in answer.errors)
    for data in answer.dags:
        findings += rules.of_dag(data, file, known, queues)
    return findings


def _airflow(root: Path) -> Airflow:
    """Load Airflow, and all of it that a file needs."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.dag_processing.importers import get_importer_registry
    from airflow.serialization.serialized_objects import DagSerialization

    def examine(path: str, place: Path = root) -> dict[str, Any]:
        bag = BundleDagBag(
            str(place),
            bundle_path=place,
            bundle_name=BUNDLE,
            collect_dags=False,
            load_op_links=False,
        )
        dicts, errors = [], []
        process: Callable[..., list[Any]] = bag.process_file
        for dag in process(path, only_if_updated=False, safe_mode=True):
            try:
                # There and back, as it goes into the database and out: import alone misses a
                # timetable that no plugin registers.
                data = json.loads(json.dumps(DagSerialization.to_dict(dag)))
                DagSerialization.from_dict(data)
                dicts.append(data)
            except Exception as error:
                errors.append(f"DAG {dag.dag_id!r} cannot be serialised: {error}")
        return {"dags": dicts, "errors": [*map(str, bag.import_errors.values())], "data": errors}

    with tempfile.TemporaryDirectory() as place:
        warm = Path(place) / "warm.py"
        warm.write_text(_WARM)
        examine(str(warm), Path(place))
    found = get_importer_registry().list_dag_files(str(root), safe_mode=True)
    return Airflow(sorted(map(str, found)), examine)


def _import_once(modules: Iterable[str]) -> None:
    """Import what many files import, so that each fork has it already."""
    for name in filter(_KEPT.match, modules):
        with suppress(Exception):  # the file that imports it says why not
            importlib.import_module(name)
    gc.freeze()  # forks share what is there


def _of_traceback(root: Path, file: str, said: str) -> Finding:
    """Return a traceback as a finding: of the last file of the push that it goes through."""
    lines = [line for line in said.splitlines() if line.strip()]
    where, number = file, 0
    for line in lines:
        if match := _FRAME.match(line):
            path = Path(match[1])
            if path.is_relative_to(root):
                where, number = path.relative_to(root).as_posix(), int(match[2])
    headline = _headline(lines)
    trace = [line for line in lines if line != headline]
    if where != file:
        headline = f"{headline} (when {file} imports it)"
    return finding("import", where, headline, line=number, trace=trace)


def _headline(lines: list[str]) -> str:
    """Return the line of a traceback that names the exception: the first after the frames."""
    frames = [number for number, line in enumerate(lines) if line.startswith(" ")]
    first = frames[-1] + 1 if frames else 0
    return lines[first] if first < len(lines) else " ".join(lines[-1:])


def _apart(
    file: str, examine: Callable[[], dict[str, Any]], results: TextIO, seconds: float
) -> Answer:
    """Run ``examine`` in a forked process and read its answer.

    The answer is a file whose name is random, made when the strangers' code has run: there is
    no descriptor to write to before, and nothing to find.
    """
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place) / secrets.token_hex(32)
        pid = os.fork()
        if pid == 0:
            try:
                os.setpgid(0, 0)
                sys.setrecursionlimit(FRAMES)  # as where Airflow reads it
                os.close(results.fileno())
                raw = json.dumps(examine()).encode()
                with answer.open("xb") as made:
                    made.write(raw)
            except BaseException as error:
                print(f"{file}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(0)
        status = _wait(pid, seconds)
        raw = _content(answer)
    if status is None:
        slow = f"reading it takes longer than {seconds:.0f} s"
        return Answer([], [], [finding("bounds", file, slow)])
    if len(raw) > _MAX_ANSWER:
        large = f"its DAGs are more than {_MAX_ANSWER} bytes as data"
        return Answer([], [], [finding("bounds", file, large)])
    value = parse_json(raw)
    if not isinstance(value, dict) or os.WIFSIGNALED(status):
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "an early exit"
        said = f"reading it ended the process by {how}"
        return Answer([], [], [finding("import", file, said)])
    lists = {key: value.get(key) for key in ("dags", "errors", "data")}
    dags, errors, data = (each if isinstance(each, list) else [] for each in lists.values())
    return Answer(dags, [*map(str, errors)], [finding("serialise", file, each) for each in data])


def _content(answer: Path) -> bytes:
    """Return the answer, at most one byte too many; nothing if there is none."""
    with suppress(OSError), answer.open("rb") as file:
        return file.read(_MAX_ANSWER + 1)
    return b""


def _wait(pid: int, seconds: float) -> int | None:
    """Wait for a child; None if it had to be killed for its time."""
    deadline = time.monotonic() + seconds
    status: int | None = None
    while status is None and time.monotonic() < deadline:
        ended, found = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = found
        else:
            time.sleep(_POLL)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if status is None:
        os.waitpid(pid, 0)
    return status


def _clear(alone_as: int) -> str:
    """Kill what the last file left behind, if this user is the sandbox's own; return what it is."""
    if alone_as == 0 or os.getresuid() != (alone_as, alone_as, alone_as):
        return ""
    left = alive(alone_as, but=os.getpid())
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return left


def _say(results: TextIO, value: dict[str, Any]) -> None:
    results.write(json.dumps(value) + "\n")
    results.flush()


if __name__ == "__main__":
    there = There(*([name for name in word.split(",") if name] for word in sys.argv[3:6]))
    main(Path(sys.argv[1]), float(sys.argv[2]), there, *map(int, sys.argv[6:7]))
