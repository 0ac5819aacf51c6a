"""How a run of a job ended, read from what Nomad says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from harmattan.runs.end import Kind

# How a job's main task ends, as sysexits.h has it; all other codes are passing: a process that was
# killed, ran out of memory or lost its node.
DONE = 0
LASTING = {1: "failed for good", 2: "was used wrongly"}
PASSING = {75: "failed, and asks for another try"}


# Events that say what follows from a failure, or precedes one.
_NO_CAUSES = {
    *("Received", "Task Setup", "Started"),
    *("Not Restarting", "Killing", "Killed", "Sibling Task Failed"),
}


@dataclass(frozen=True)
class Verdict:
    """``reason`` says what was found, in words that fit behind "found that it"."""

    kind: Kind
    reason: str = ""


def main_task(job: dict[str, Any]) -> str:
    """Return the name of the task that the job is about: its first one that has no lifecycle."""
    tasks = [task for group in job["TaskGroups"] for task in group["Tasks"]]
    return str(next(task["Name"] for task in tasks if not task.get("Lifecycle")))


def state_of(allocation: dict[str, Any], task: str) -> dict[str, Any]:
    """Return what Nomad says of one task of an allocation; empty before it says anything."""
    return (allocation.get("TaskStates") or {}).get(task) or {}


def read(job: dict[str, Any], allocations: Sequence[dict[str, Any]]) -> Verdict | None:
    """Return how the run ended, None while the job has not; ``allocations`` go by their age.

    The job's own end decides: what Nomad restarted or placed again meanwhile is history.
    """
    if job["Status"] != "dead":
        return None
    if job.get("Stop"):
        return Verdict("lasting", "was stopped in Nomad")
    if not allocations:
        return Verdict("passing", "ended without having run")
    last, task = allocations[-1], main_task(job)
    if last["ClientStatus"] == "lost":
        return Verdict("passing", "was on a node that Nomad lost")
    events = state_of(last, task).get("Events") or ()
    ended = [event for event in events if event["Type"] == "Terminated"]
    if not ended:
        return Verdict("passing", f"did not start: {_said(last)}")
    return _of(ended[-1])


def _of(event: dict[str, Any]) -> Verdict:
    """Return the verdict on a process by the event of its end."""
    details = event.get("Details") or {}
    if details.get("oom_killed") == "true":
        return Verdict("passing", "ran out of memory")
    code, signal = int(event.get("ExitCode") or 0), int(event.get("Signal") or 0)
    if signal:
        return Verdict("passing", f"was killed by signal {signal}")
    if code == DONE:
        return Verdict("done")
    if code in LASTING:
        return Verdict("lasting", f"{LASTING[code]} (exit code {code})")
    return Verdict("passing", f"{PASSING.get(code, 'was killed or broke')} (exit code {code})")


def _said(allocation: dict[str, Any]) -> str:
    """Return what Nomad says last of the tasks of an allocation that failed."""
    states = (allocation.get("TaskStates") or {}).values()
    said = [
        (event["Time"], event["DisplayMessage"])
        for state in states
        for event in state.get("Events") or ()
        if state.get("Failed") and event["Type"] not in _NO_CAUSES and event.get("DisplayMessage")
    ]
    return str(max(said)[1]) if said else f"its allocation is {allocation['ClientStatus']}"
