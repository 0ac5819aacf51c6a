"""Pushes and a night to show: those of a school, and one who means it ill."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from delivery.history import Sync
from delivery.live import Pin, Standing
from delivery.report import Look, Report
from delivery.verdict import Exemption, Finding, Outcome, Verdict
from harmattan.overview.backups import Backups, Kept
from harmattan.overview.night import FailedCheck, Night, PipelineRun

NOW = datetime(2026, 11, 27, 9, 30, tzinfo=UTC)
HOSTILE = "</td></table><script>alert(1)</script><img src=x onerror=alert(2)>"
GOOD, REFUSED, WRONG = "a1" * 20, "b2" * 20, "c3" * 20


def ago(**how: float) -> str:
    return (NOW - timedelta(**how)).isoformat(timespec="seconds")


def sync(commit: str, outcome: Outcome, findings: tuple[Finding, ...] = (), **how: float) -> Sync:
    return Sync(
        Verdict(
            commit, outcome, "Nomad: judge ended with 0", True, 1, ago(**how), GOOD, findings,
            (Exemption("dags/mail.py", 7, "retries", "a second mail would be worse than none"),)
            if outcome == "sound"
            else (),
        ),
        "Ama Mensah <ama.mensah@school.example>",
        ago(**how),
        GOOD,
        ("dags/school_report.py", "include/terms.py", "models/marts/enrolment.sql"),
        3,
    )  # fmt: skip


FINDINGS = (
    Finding("dags/absences.py", 12, "retries", "task fetch reaches out and has 0 retries",
            "Give it retries=3 and retry_exponential_backoff=2.0."),
    Finding("dags/absences.py", 31, "lookup", "Variable.get at the top of the file"),
    Finding("include/terms.py", 3, "import-time", "ModuleNotFoundError: No module named 'terms'",
            "", ("Traceback (most recent call last):", '  File "include/terms.py", line 3',
                 "ModuleNotFoundError: No module named 'terms'")),
)  # fmt: skip

CONTENTS = {
    REFUSED: {"dags/absences.py": "2", "dags/school_report.py": "1", "include/terms.py": "1"},
    WRONG: {"dags/absences.py": "1", "dags/school_report.py": "1"},
    "d4" * 20: {"dags/school_report.py": "1", HOSTILE: "1"}
    | {f"pipelines/{n}.yaml": "1" for n in range(120)},
}


def report() -> Report:
    return Report(
        ago(minutes=2),
        Look(ago(minutes=2)),
        Standing(GOOD, ago(days=3)),
        Pin(GOOD, "the newest counts pupils twice", ago(hours=20)),
        (
            sync(REFUSED, "refused", FINDINGS, minutes=42),
            sync(WRONG, "sound", hours=21),
            sync("d4" * 20, "refused", (Finding(HOSTILE, 1, "tree", HOSTILE), FINDINGS[0]), days=1),
            sync("e5" * 20, "unknown", hours=30),
            sync(GOOD, "sound", days=3),
            *(sync(f"{n:02x}" * 20, "sound", days=4 + n) for n in range(1, 11)),
        ),
        CONTENTS,
    )  # fmt: skip


def backups() -> Backups:
    made, drilled = "2026-11-27T03:00:00+00:00", "2026-11-02T04:00:00+00:00"
    return Backups(
        "2026-11-27T06:00:00+00:00",
        (
            Kept(
                "records",
                ("stale", "drill failed"),
                "2026-11-25T03:00:00+00:00",
                2_400_000,
                drilled,
                0,
            ),
            Kept("hr", (), made, 138_400, drilled, 1),
            Kept(HOSTILE, ("uncovered",), "", None, "", 0),
        ),
        2,
    )


def night() -> Night:
    def run(name: str, status: str, rows: int, error: str | None = None) -> PipelineRun:
        began = NOW - timedelta(hours=7, minutes=28)
        return PipelineRun(
            name, status, began, began + timedelta(seconds=40),
            f"raw_{name}.tickets" if error else None, error,
            "Look at the rows by their keys, and put them right at the source." if error else None,
            11, 1 if error else 0, rows,
        )  # fmt: skip

    return Night(
        (
            run("service_desk", "failed", 32_694,
                "2 checks did not pass: unique (ticket_id): expected no two rows, found 3 keys"),
            run("hr", "success", 7_432),
            run("records", "success", 87_792),
        ),
        (
            FailedCheck("service_desk", "raw_service_desk.tickets", "unique (ticket_id)",
                        "no two rows", "3 keys", ["40117", "40118", "40120"], 3),
            FailedCheck("service_desk", "raw_service_desk.tickets", "accepted (status)",
                        "open, closed", HOSTILE, [HOSTILE], 12),
        ),
    )  # fmt: skip
