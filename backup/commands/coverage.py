"""Tell what is not backed up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from backup.bucket.catalogue import open_catalogue
from backup.bucket.layout import merged
from backup.bucket.lifecycle import Rule, states
from backup.commands.app import Timeout, app, out, read_settings
from backup.deadline import limited
from backup.openpgp.expiry import key_states, longest_signing
from backup.proof import brief
from backup.proof.alerts import Alerts
from backup.proof.coverage import Kept, Row, judge, judge_keys
from backup.proof.history import NIGHTS
from backup.proof.kept import DRILL, LOOKED_AT, kept_reports
from backup.proof.report import human_age, human_bytes
from backup.proof.survey import survey
from backup.proof.trust import judge_copies, judge_lock, judge_recovery, judge_rules
from backup.registry import load_registry
from frame.failure import Failure
from frame.output import AsJson, print_json, table

if TYPE_CHECKING:
    from backup.manifest import Manifest
    from backup.settings import Settings

JOB = "backup-coverage"


@app.command()
@limited
def coverage(timeout: Timeout = "15m", as_json: AsJson = False) -> None:
    """Show which databases are not backed up and drilled.

    Every server is asked which databases it has. Exit 1 unless each is backed up and drilled: a
    row is red if it is uncovered, without a backup, stale (older than 26 hours), shrunk (to less
    than half of what was usual), hidden before its time, with a manifest that is not its job's,
    be it the newest or one of the seven before, without a monthly copy, or not drilled with
    success in 34 days; if a table lost its rows, or more of them than it did in a week; for a key
    that expires within 60 days, a recovery key that is not pinned or no recipient, lifecycle rules
    that are not in place, an object lock other than the pinned one, and a monthly copy that is
    damaged. What is red goes to the webhook. A row is yellow for a table without its proof, for
    what the dump cannot hold, for fewer rows than usual and for earlier backups that cannot be
    read, until databases.toml has the name as `accepted`.
    """
    settings = read_settings()
    alerts = Alerts.of(settings)
    with alerts.if_it_breaks(JOB, settings.prefix):
        rows = _ask(settings)
    red = [row for row in rows if not row.well]
    if red:
        alerts.failed(JOB, settings.prefix, [row.model_dump(mode="json") for row in red])
    else:
        alerts.good(JOB)
    if settings.brief:
        _leave_brief(settings, rows)
    if as_json:
        print_json([row.model_dump(mode="json") for row in rows])
    else:
        _show_coverage(rows)
    if red:
        raise typer.Exit(1)


def _leave_brief(settings: Settings, rows: list[Row]) -> None:
    """Leave the brief; what prevents it is said, and is no fault of a backup's."""
    try:
        brief.leave(settings, rows, datetime.now(UTC))
    except Failure as error:
        typer.echo(f"the brief for Airflow's page was not left: {error}", err=True)


def _ask(settings: Settings) -> list[Row]:
    """Ask servers and bucket and return every row."""
    registry, now = load_registry(settings.registry), datetime.now(UTC)
    registry = registry.model_copy(update={"recovery_key": settings.pinned_recovery()})
    servers = survey(settings, registry)
    bucket, signing = {}, {}
    with open_catalogue(settings) as catalogue:
        for entry in registry.entries:
            copies = catalogue.kept(entry.name)
            backups = merged([*catalogue.made(entry.name), *copies])
            manifest: Manifest | Failure | None = None
            try:
                for newest in (*copies[-1:], *backups[-1:]):
                    manifest = catalogue.manifest(newest)
                    signing[entry.name] = manifest.signer
            except Failure as error:
                manifest = error
            earlier = catalogue.manifests(backups[-NIGHTS - 1 : -1])
            bucket[entry.name] = Kept(backups, copies, manifest, earlier)
        signers = catalogue.opener.signers
        if signers.knows(DRILL) and (reporting := longest_signing(signers.keys(DRILL))):
            signing[DRILL] = reporting
        drills = kept_reports(catalogue.store, settings.prefix, LOOKED_AT, signers)
        now -= timedelta(seconds=catalogue.store.clock_ahead or 0.0)  # B2's own
        keys = list(key_states(settings, now, signing=signing, signers=signers))
        _, rules = catalogue.store.lifecycle_rules()
        lock = catalogue.store.object_lock()
    return [
        *judge(registry, servers, bucket, drills, now),
        *judge_copies(drills),
        *judge_keys(keys),
        *judge_recovery(registry.recovery_key),
        *judge_rules(states([Rule.of(rule) for rule in rules], settings.prefix)),
        *judge_lock(lock, registry.object_lock),
    ]


def _show_coverage(rows: list[Row]) -> None:
    shown = table("name", "server", "state", ">newest", ">size", "drilled")
    for row in rows:
        told = dict.fromkeys(notice.what for notice in row.notices)
        shown.add_row(
            escape(row.name),
            row.server or "-",
            ", ".join((*row.states, *told)) or "well",
            human_age(row.age_seconds),
            human_bytes(row.size),
            f"{row.drilled:%Y-%m-%d}" if row.drilled else "-",
            style="red" if row.states else "yellow" if row.notices else None,
        )
    out.print(shown)
    for row in rows:
        if row.detail:
            out.print(f"{row.name}: {row.detail}", style="red", markup=False)
        for notice in row.notices:
            out.print(f"{row.name}: {notice}", style="yellow", markup=False)
        for warning in row.warnings:
            out.print(f"{row.name}: {warning}", markup=False)
