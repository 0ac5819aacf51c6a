"""What the policies say of a DAG, from what Airflow would keep of it and from the push's text.

``data`` is a DAG as ``DagSerialization.to_dict`` gives it, in plain JSON. It comes from a process
in which the file itself ran, so nothing in it is trusted to be of any shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from delivery import containers, limits, schedules
from delivery.policies import finding, policies
from ingest import document
from ingest.errors import ContractError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from delivery.reading import Reading
    from delivery.verdict import Finding

RESERVED = {"ingest_": limits.PIPELINES, containers.PREFIX: limits.CONTAINERS}
"""DAG ids that begin so belong to the pipelines' bundle, by the folder of their files."""


def dag_id(data: object) -> str:
    """Return the id of a DAG, "" if it has none."""
    return str(_dict(_dict(data).get("dag")).get("dag_id") or "")


def of_dag(data: object, file: str, reading: Reading, queues: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with a DAG of ``file``; ``queues`` are those that workers serve."""
    dag = _dict(_dict(data).get("dag"))
    name = dag_id(data)
    line = reading.line_of(file, name)
    rules = policies()
    if not dag.get("tags"):
        yield finding("tags", file, f"DAG {name!r} has no tag", line=line)
    if dag.get("access_control"):
        yield finding("access", file, f"DAG {name!r} sets access_control", line=line)
    if close := schedules.too_close(_dict(dag.get("timetable")), rules["schedule"].more["minutes"]):
        yield finding("schedule", file, f"DAG {name!r} {close}", line=line)
    defaults = _dict(_dict(_dict(data).get("client_defaults")).get("tasks"))
    for task in _tasks(dag, defaults):
        task_id = str(task.get("task_id"))
        what = f"DAG {name!r}, task {task_id!r}"
        at = reading.line_of(file, task_id, task_id.rpartition(".")[2]) or line
        owner = str(task.get("owner") or "").strip()
        if owner in ("", rules["owner"].more["default"]):
            yield finding("owner", file, f"{what} has no owner", line=at)
        if why := _unsafe_retries(task, file, reading):
            yield finding("retries", file, f"{what} {why}", line=at)
        queue = task.get("queue")
        if queues and queue not in queues:
            unserved = f"asks for the queue {queue!r}, which no worker serves"
            said = f"{what} {unserved}: there are {', '.join(queues)}"
            yield finding("queue", file, said, line=at)


def of_ids(claims: dict[str, list[str]], reading: Reading) -> Iterator[Finding]:
    """Yield what is wrong with DAG ids: ``claims`` names the files that define each."""
    for name, files in claims.items():
        for file in dict.fromkeys(files):
            others = sorted(set(files) - {file})
            line = reading.line_of(file, name)
            prefix = next(filter(name.startswith, RESERVED), None)
            if prefix:
                kept = f"{RESERVED[prefix]}/{name.removeprefix(prefix)}.yaml"
                said = f"DAG id {name!r} is kept for the file {kept}"
                yield finding("id", file, said, line=line)
            elif others:
                said = f"DAG id {name!r} is defined in {' and '.join(others)} as well"
                yield finding("id", file, said, line=line)
            elif files.count(file) > 1:
                said = f"DAG id {name!r} is defined {files.count(file)} times here: one would run"
                yield finding("id", file, said, line=line)


def of_schedules(file: str, reading: Reading) -> Iterator[Finding]:
    """Yield each ``schedule=`` of a file that is no schedule."""
    for line, said in reading.schedules(file):
        if why := schedules.unreadable(said):
            yield finding("schedule", file, f"schedule {said!r}: {why}", line=line)


def of_container(file: str, path: Path, there: Sequence[str]) -> Iterator[Finding]:
    """Yield what is wrong with a file of containers/, at ``path``; ``there`` is what may run."""
    try:
        name = containers.read(path).container
        if there and name not in there:
            said = f"no container {name!r} runs here: there are {', '.join(there)}"
            line = document.read(path).line(("container",))
            yield finding("container", file, said, line=line)
    except ContractError as error:
        for each in error.problems:
            yield finding("container", file, f"{each.key}: {each.message}", line=each.line)


def of_schedule(file: str, path: Path) -> Iterator[Finding]:
    """Yield why a file of pipelines/ or containers/, at ``path``, runs within minutes of itself."""
    try:
        found = document.read(path)
    except ContractError:
        return  # what reads the whole of it says so
    said = found.value.get("schedule") if isinstance(found.value, dict) else None
    minutes = policies()["schedule"].more["minutes"]
    if isinstance(said, str) and (close := schedules.cron_too_close(said, minutes)):
        yield finding("schedule", file, f"it {close}", line=found.line(("schedule",)))


def _tasks(dag: dict[str, Any], defaults: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a DAG with what was said once for all of them, mapped ones alike."""
    tasks = dag.get("tasks")
    for each in tasks if isinstance(tasks, list) else []:
        task = _dict(_dict(each).get("__var"))
        yield {**defaults, **_dict(task.get("partial_kwargs")), **task}


def _unsafe_retries(task: dict[str, Any], file: str, reading: Reading) -> str:
    """Return why a task that reaches out is not tried again as it should be, "" if it is."""
    rule = policies()["retries"]
    module = f"{task.get('_task_module')}"
    called = task.get("python_callable_name")
    if rule.names("pure", module):
        through = reading.reaches(file, str(called)) if called else ""
    else:
        through = str(task.get("_operator_name") or task.get("task_type"))
    if not through:
        return ""
    retries = task.get("retries", 0)
    if not isinstance(retries, int) or retries < rule.more["least"]:
        return f"reaches out by {through} and has {retries} retries"
    if not task.get("retry_exponential_backoff") and task.get("has_retry_policy") is not True:
        return f"reaches out by {through} and its retries have no growing delay"
    return ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
