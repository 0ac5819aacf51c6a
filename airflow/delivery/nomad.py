"""Asks Nomad how ``judge`` ended, the only word that is believed for a yes, and for a round now."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from delivery.verdict import clean
from frame.log import get_logger

if TYPE_CHECKING:
    from delivery.settings import NomadSettings, PublishSettings
    from delivery.verdict import Outcome

log = get_logger(__name__)

MAX_ANSWER = 8 * 1024 * 1024
_REFUSED_CODE = 1


@dataclass(frozen=True)
class Word:
    """What Nomad says of the judge's end, and why that is read so."""

    outcome: Outcome
    reason: str


def read(allocation: object, alloc_id: str, task: str) -> Word | None:
    """Return what the allocation's JSON says; None while the task has not ended.

    Sound is a task that is dead, did not fail, and whose last Terminated event has exit code 0,
    no signal and no error. Refused is exit code 1. All else is unknown.
    """
    state = _state(allocation, alloc_id, task)
    if state is None:
        return Word("unknown", f"Nomad's answer does not tell of the task {task}")
    if state.get("State") != "dead":
        return None
    events = [e for e in state.get("Events") or [] if isinstance(e, dict)]
    ended = [e for e in events if e.get("Type") == "Terminated"]
    if not ended:
        return Word("unknown", f"{task} ended without having run")
    last = ended[-1]
    told = last.get("Details")
    details = told if isinstance(told, dict) else {}
    codes = {str(last.get("ExitCode", 0)), str(details.get("exit_code", last.get("ExitCode")))}
    calm = (
        str(details.get("signal", last.get("Signal", 0))) == "0"
        and last.get("Signal", 0) in (0, None)
        and str(details.get("oom_killed", "false")).lower() != "true"
    )
    if codes == {"0"} and calm and state.get("Failed") is False:
        return Word("sound", f"Nomad: {task} ended with 0")
    if codes == {str(_REFUSED_CODE)} and calm:
        return Word("refused", f"Nomad: {task} ended with 1")
    shown = ", ".join(sorted(clean(code, 12) for code in codes))
    return Word("unknown", f"Nomad: {task} ended with {shown}{'' if calm else ', killed'}")


def _state(allocation: object, alloc_id: str, task: str) -> dict[str, Any] | None:
    if not isinstance(allocation, dict) or allocation.get("ID") != alloc_id:
        return None
    states = allocation.get("TaskStates")
    state = states.get(task) if isinstance(states, dict) else None
    return state if isinstance(state, dict) else None


def ask(settings: PublishSettings) -> Word:
    """Ask until Nomad tells the judge's end or ``nomad_seconds`` are over: no answer means no.

    Refusals are asked again too: the end of the main task and the rights of this one are
    recorded by servers at their own pace.
    """
    deadline = time.monotonic() + settings.nomad_seconds
    pause, problem = 0.5, "no answer"
    while True:
        try:
            path = f"allocation/{settings.alloc_id}"
            word = read(_call(settings, "GET", path), settings.alloc_id, settings.judge_task)
            if word is not None:
                return word
            problem = f"{settings.judge_task} had not ended"
        except (httpx.HTTPError, OSError, ValueError, RecursionError) as error:
            problem = clean(f"{type(error).__name__}: {error}")
        if time.monotonic() + pause > deadline:
            return Word("unknown", f"Nomad did not tell how the judge ended: {problem}")
        log.info("waiting for Nomad's word", problem=problem)
        time.sleep(pause)
        pause = min(pause * 2, 5.0)


def under_way(settings: NomadSettings, job: str, namespace: str) -> bool:
    """Return whether a round of the periodic ``job`` has not ended yet.

    Raises httpx.HTTPError, OSError and ValueError.
    """
    query = f"jobs?prefix={job}/periodic-&namespace={namespace}"
    found = _call(settings, "GET", query)
    rounds = found if isinstance(found, list) else []
    return any(isinstance(each, dict) and each.get("Status") != "dead" for each in rounds)


def force(settings: NomadSettings, job: str, namespace: str) -> None:
    """Start a round of the periodic ``job`` now. Raises as :func:`under_way` does."""
    _call(settings, "PUT", f"job/{job}/periodic/force?namespace={namespace}")


def _call(settings: NomadSettings, method: str, path: str) -> object:
    """Return the JSON of Nomad's answer, bounded, over no proxy and no redirect."""
    # Read each time: Nomad renews the file.
    token = settings.token_file.read_text().strip()
    address = settings.nomad_address
    if address.startswith("unix://"):
        transport = httpx.HTTPTransport(uds=address.removeprefix("unix://"))
        address = "http://nomad"
    else:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        transport = httpx.HTTPTransport(verify=context)
    with (
        httpx.Client(transport=transport, trust_env=False, timeout=10) as client,
        client.stream(
            method, f"{address.rstrip('/')}/v1/{path}", headers={"X-Nomad-Token": token}
        ) as answer,
    ):
        if answer.status_code == httpx.codes.FORBIDDEN:
            raise ValueError("it refuses this task's identity (HTTP 403), as after a failed judge")
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"HTTP {answer.status_code}")
        body = bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > MAX_ANSWER:
                raise ValueError(f"more than {MAX_ANSWER} bytes")
    value: object = json.loads(bytes(body))
    return value
