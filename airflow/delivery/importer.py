"""Imports and serialises DAG files: ``python -I -m delivery.importer TREE SECONDS QUEUES [UID]``.

Strangers' code runs here, so this runs in the sandbox. It prints one JSON object a line:
``{"importing": file}`` before each file, ``{"finding": {file, message, trace}}``, and at the very
end ``{"complete": {"files": n, "dags": n}}``. Without that last line nothing is proven.

Each file is imported in a process of its own, forked when Airflow is loaded, as the DAG processor
does: a file that crashes, hangs or leaves something behind in ``sys.modules`` speaks for itself
only. A file can therefore lie about its own soundness, never about another's.

QUEUES are those that a worker serves, with commas; if it is empty, a task may name any.

With UID, and only if it runs as that user, everything else of that user is killed after each file:
a fork bomb takes no process from the next one.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from delivery.verdict import Finding, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RESERVED = "ingest_"
"""DAG ids that begin so belong to the pipelines' bundle."""
BUNDLE = "analysts"
_MAX_ANSWER = 256 * 1024
_MAX_ID = 250
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
# Airflow's own time-out speaks first, with a traceback; this one is for what does not listen.
_GRACE = 5.0


def main(tree: Path, file_seconds: float, queues: list[str], alone_as: int = 0) -> None:
    """Examine every DAG file of ``tree``; findings go to the real stdout."""
    results = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Airflow and strangers print is noise
    # Children cannot look into this process or into each other.
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    files, examine = _airflow(tree, queues)
    owner: dict[str, str] = {}
    for path in files:
        name = Path(path).relative_to(tree).as_posix()
        _say(results, {"importing": name})
        ids, findings = _apart(name, partial(examine, path), results, file_seconds + _GRACE)
        _clear(alone_as)
        for dag_id in ids:
            if dag_id.startswith(RESERVED):
                problem = f"DAG id {dag_id!r}: ids that begin with {RESERVED} are for pipelines"
                findings.append(Finding.of(name, problem))
            if dag_id in owner:
                problem = f"DAG id {dag_id!r} is defined in {owner[dag_id]} already"
                findings.append(Finding.of(name, problem))
            owner[dag_id] = name
        for finding in findings:
            _say(results, {"finding": vars(finding)})
    _say(results, {"complete": {"files": len(files), "dags": len(owner)}})


def _airflow(tree: Path, queues: list[str]) -> tuple[list[str], Callable[[str], dict[str, Any]]]:
    """Load Airflow; return the DAG files as it finds them and what examines one."""
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.dag_processing.importers import get_importer_registry
    from airflow.serialization.serialized_objects import DagSerialization

    def examine(path: str) -> dict[str, Any]:
        bag = BundleDagBag(
            str(tree), bundle_path=tree, bundle_name=BUNDLE, collect_dags=False, load_op_links=False
        )
        ids, findings = [], []
        process: Callable[..., list[Any]] = bag.process_file
        for dag in process(path, only_if_updated=False, safe_mode=True):
            ids.append(str(dag.dag_id)[:_MAX_ID])
            if dag.access_control:
                problem = f"DAG {dag.dag_id!r}: access_control is for the platform team to grant"
                findings.append(vars(Finding.of("", problem)))
            findings += [vars(Finding.of("", problem)) for problem in _unserved(dag, queues)]
            try:
                # There and back, as it goes into the database and out: import alone misses a
                # timetable that no plugin registers.
                data = json.loads(json.dumps(DagSerialization.to_dict(dag)))
                DagSerialization.from_dict(data)
            except Exception as error:
                problem = f"DAG {dag.dag_id!r} cannot be serialised: {error}"
                findings.append(vars(Finding.of("", problem)))
        for said in bag.import_errors.values():
            lines = [line for line in str(said).splitlines() if line.strip()]
            findings.append(vars(Finding.of("", _headline(lines), lines)))
        return {"ids": ids, "findings": findings}

    return sorted(get_importer_registry().list_dag_files(str(tree), safe_mode=True)), examine


def _unserved(dag: Any, queues: list[str]) -> Iterator[str]:
    """Yield what is wrong with each task that would wait for a worker which there is not."""
    for task in dag.tasks if queues else []:
        if task.queue not in queues:
            yield (
                f"DAG {dag.dag_id!r}: task {task.task_id!r} asks for the queue {task.queue!r},"
                f" which no worker serves: there are {', '.join(queues)}"
            )


def _headline(lines: list[str]) -> str:
    """Return the line of a traceback that names the exception: the first after the frames."""
    frames = [number for number, line in enumerate(lines) if line.startswith(" ")]
    first = frames[-1] + 1 if frames else 0
    return lines[first] if first < len(lines) else " ".join(lines[-1:])


def _apart(
    name: str, examine: Callable[[], dict[str, Any]], results: TextIO, seconds: float
) -> tuple[list[str], list[Finding]]:
    """Run ``examine`` in a forked process; return DAG ids and findings of the file ``name``."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            os.close(reading)
            os.close(results.fileno())
            answer = json.dumps(examine()).encode()
            while answer:
                answer = answer[os.write(writing, answer) :]
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(0)
    os.close(writing)
    raw, status = _wait(pid, reading, seconds)
    os.close(reading)
    if status is None:
        return [], [
            Finding(name, f"importing it took longer than {seconds:.0f} s, or answered without end")
        ]
    value = parse_json(raw)
    if not isinstance(value, dict) or os.WIFSIGNALED(status):
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "an early exit"
        return [], [Finding(name, f"importing it ended the process by {how}")]
    ids = value.get("ids")
    kept = [str(dag_id)[:_MAX_ID] for dag_id in ids] if isinstance(ids, list) else []
    said = value.get("findings")
    findings = [
        Finding.of(name, item.get("message", ""), item.get("trace", []))
        for item in (said if isinstance(said, list) else [])
        if isinstance(item, dict)
    ]
    return kept, findings


def _wait(pid: int, reading: int, seconds: float) -> tuple[bytes, int | None]:
    """Wait for a child and its answer; status None if it had to be killed for time or size."""
    raw = bytearray()
    os.set_blocking(reading, False)
    deadline = time.monotonic() + seconds
    status: int | None = None
    with selectors.DefaultSelector() as selector:
        selector.register(reading, selectors.EVENT_READ)
        while status is None and time.monotonic() < deadline and len(raw) <= _MAX_ANSWER:
            ended, found = os.waitpid(pid, os.WNOHANG)
            if ended:
                status = found
            if not selector.get_map():
                time.sleep(0.02)
            elif selector.select(0 if ended else 0.05):
                with suppress(BlockingIOError):
                    while (chunk := os.read(reading, 65536)) and len(raw) <= _MAX_ANSWER:
                        raw += chunk
                    if not chunk:
                        selector.unregister(reading)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    if status is None:
        os.waitpid(pid, 0)
    return bytes(raw), status


def _clear(alone_as: int) -> None:
    """Kill what the last file left behind, if this user is the sandbox's own."""
    if alone_as == 0 or os.getresuid() != (alone_as, alone_as, alone_as):
        return
    with suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def _say(results: TextIO, value: dict[str, Any]) -> None:
    results.write(json.dumps(value) + "\n")
    results.flush()


if __name__ == "__main__":
    main(
        Path(sys.argv[1]),
        float(sys.argv[2]),
        [name for name in sys.argv[3].split(",") if name],
        *map(int, sys.argv[4:5]),
    )
