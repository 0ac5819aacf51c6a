"""``dag-sync judge``: say of a push whether all of it is sound.

This process is ours; strangers' code runs in the sandbox only. Its exit code is the verdict and
the only thing that ``publish`` believes, by Nomad's word. Findings are for humans.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

from delivery import candidate as candidates
from delivery import gate, verdict
from delivery.gate import Conclusion, Place
from delivery.policies import finding
from delivery.sandbox import Sandbox
from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from delivery.settings import JudgeSettings
    from delivery.verdict import Exemption, Finding

log = get_logger(__name__)


def judge(settings: JudgeSettings, environ: Mapping[str, str], *, same_user: bool) -> int:
    """Judge the candidate of this run and return the exit code.

    ``same_user`` runs strangers' code as our own user: for a tree one trusts.
    Raises Failure if nothing can be said about the push.
    """
    if not same_user and os.geteuid() != 0:
        raise WrongUse(
            "judge is not root, so it cannot run strangers' code as another user",
            "Run the task as root with the capabilities SETUID, SETGID and KILL; on a laptop, "
            "`dag-sync check` looks at a tree that you trust.",
        )
    run = candidates.folder(settings.incoming, settings.alloc_id)
    found = candidates.load(run)
    if found is None:
        raise Failure(
            f"{run} holds no candidate", "See the log of the fetch task: it did not finish."
        )
    if found.judged:
        log.info("nothing new: this commit was judged already", commit=found.commit)
        return gate.SOUND
    if found.refused:
        return _tell(settings, found.commit, Conclusion(list(found.refused), [], []))
    tree = run / "tree"
    sandbox = Sandbox(
        None if same_user else (settings.uid, settings.gid),
        gate.bounds(settings),
        watched=(settings.alloc_dir, settings.task_dir),
    )
    log.info("judging", commit=found.commit)
    # However this process ends, the next step knows at once that it came to no verdict.
    ended = finding("judge", "", "the judge ended before it had looked at everything")
    _hand_over(settings, found.commit, "unknown", [ended], [])
    place = Place(settings, sandbox, tree, settings.dbt, environ)
    seen = [look(place) for look in gate.PARTS.values()]
    return _tell(settings, found.commit, gate.conclude(tree, seen))


def _tell(settings: JudgeSettings, commit: str, concluded: Conclusion) -> int:
    """Log the verdict, hand the findings over and return the exit code."""
    findings = concluded.findings
    for line in (line for each in findings for line in each.lines()):
        log.warning(line)
    for each in concluded.used:
        log.info("departs from a policy", **asdict(each))
    outcome = gate.OUTCOMES[concluded.code]
    log.info("verdict", commit=commit, verdict=outcome, findings=len(findings))
    _hand_over(settings, commit, outcome, findings, concluded.used)
    return concluded.code


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
