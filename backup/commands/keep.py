"""How long backups are kept: the monthly copies, and the rules of the bucket."""

from __future__ import annotations

from datetime import UTC, datetime

import typer
from pydantic import TypeAdapter

from backup.bucket import monthly
from backup.bucket.catalogue import open_catalogue
from backup.bucket.layout import Backup
from backup.bucket.lifecycle import Rule, State, apply, states
from backup.commands.app import Scope, Timeout, app, out, read_settings
from backup.deadline import limited
from backup.proof.alerts import Alerts
from backup.registry import load_registry
from frame.output import AsJson, print_json, table

rules = typer.Typer(help="How long the bucket keeps backups: B2's own lifecycle rules.")
app.add_typer(rules, name="lifecycle", no_args_is_help=True)


@app.command("monthly")
@limited
def keep_monthly(names: Scope = None, timeout: Timeout = "4h", as_json: AsJson = False) -> None:
    """Keep the newest backup of each for 13 months.

    Once a calendar month it is copied, inside the bucket, by a key that reads and writes it.
    """
    settings = read_settings()
    entries = load_registry(settings.registry).select(names or [])
    with (
        Alerts.of(settings).if_it_breaks("backup-monthly", settings.prefix),
        open_catalogue(settings, any_clock=False) as catalogue,
    ):
        copied = monthly.keep(catalogue, settings.prefix, entries, datetime.now(UTC))
    if as_json:
        print_json(TypeAdapter(list[Backup]).dump_python(copied, mode="json"))
        return
    for backup in copied:
        typer.echo(f"copied {backup.id} of {backup.database}")
    typer.echo(
        f"{len(entries) - len(copied)} of {len(entries)} needed no copy: this month's is there, "
        "or no newer backup"
    )


def _show_rules(found: list[State], lock: str, *, as_json: bool) -> None:
    if as_json:
        print_json({"rules": [state.as_json() for state in found], "object_lock": lock})
        return
    shown = table("objects below", "hidden after", "deleted", "unfinished cancelled", "state")
    for state in found:
        days = [state.rule.hide_after, state.rule.delete_after, state.rule.cancel_after]
        later = ("{} d", "{} d later", "after {} d")
        told = [
            "never" if number is None else text.format(number)
            for number, text in zip(days, later, strict=True)
        ]
        style = None if state.well else "red"
        shown.add_row(state.rule.prefix, *told, state.state, style=style)
    out.print(shown)
    out.print(f"object lock: {lock}")


@rules.command("show")
@limited
def show_rules(timeout: Timeout = "2m", as_json: AsJson = False) -> None:
    """Show how long the bucket keeps what.

    Exit 1 if a rule is missing or different.
    Object lock is the bucket's default retention, within which nobody can delete.
    """
    settings = read_settings()
    with open_catalogue(settings) as catalogue:
        _, there = catalogue.store.lifecycle_rules()
        lock = catalogue.store.object_lock()
    found = states([Rule.of(rule) for rule in there], settings.prefix)
    _show_rules(found, lock, as_json=as_json)
    if not all(state.well for state in found):
        raise typer.Exit(1)


@rules.command("apply")
@limited
def apply_rules(timeout: Timeout = "2m", as_json: AsJson = False) -> None:
    """Put the bucket's rules in place; those of other prefixes stay. Needs the right writeBuckets.

    Backups are hidden after 16 days and deleted 14 days later, the monthly copies after 367 and 30,
    reports of drills after 731 and 30. Hidden ones are listed and restored as before.
    """
    settings = read_settings()
    with open_catalogue(settings) as catalogue:
        found = apply(catalogue.store, settings.prefix)
        lock = catalogue.store.object_lock()
    _show_rules(found, lock, as_json=as_json)
