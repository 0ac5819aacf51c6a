"""The command line: one function a verb."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.table import Table

from backup.catalogue import Backup, Catalogue, Newest
from backup.connection import PostgresUri
from backup.console import App, command, progress
from backup.crypt import private_key, public_keys
from backup.deadline import parse_duration, time_limit
from backup.drill import run_drill
from backup.dump import run_backup
from backup.errors import WrongUse
from backup.lifecycle import Rule, State, apply, states
from backup.registry import load_registry
from backup.report import drill_table, human_age, human_bytes
from backup.restore import Wanted
from backup.restore import restore as restore_backup
from backup.restore import verify as verify_backup
from backup.settings import B2_KEY, DRILL_KEY, RECIPIENTS, Settings
from backup.store import open_store

if TYPE_CHECKING:
    from backup.manifest import Manifest

HELP = """Encrypted off-site backups of PostgreSQL databases, and the proof that they restore.

Exit codes: 0 done, 1 failed, 2 wrong use or wrong settings (nothing was started).

\b
Settings, from the environment:
  BACKUP_SECRETS_DIR   directory of the secret files (see below)
  BACKUP_B2_REALM      "production" or the URL of a B2 endpoint
  BACKUP_BUCKET        name of the bucket
  BACKUP_PREFIX        environment, the first folder in the bucket, such as local
  BACKUP_SCRATCH       directory for restores and drills (default: the temporary directory)
  BACKUP_PG_BIN        PostgreSQL's programs (default: /usr/lib/postgresql/15/bin)
  BACKUP_REGISTRY      list of databases (default: databases.toml in the package)
  BACKUP_PART_MINIMUM  smallest part of an upload (default: 16MiB)
  BACKUP_BANDWIDTH     most bytes a second that an upload takes, such as 20MB (default: no limit)
  BACKUP_DIGEST_JOBS   sessions that digest tables beside the dump (default: half the cores)

\b
Secret files, each needed by some verbs only:
  database_uri     run: the source, postgresql://user:password@host/database
  recipients.asc   run: public keys, armoured; the dump is encrypted to all of them
  b2.json          all: {"key_id": "...", "key": "..."}
  drill_key.asc    drill, restore, verify: a private key, armoured, without a passphrase
  b2_results.json  drill, if b2.json cannot write: a key for <prefix>/drills/
"""

app = App(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables
)
rules = typer.Typer(help="How long the bucket keeps backups: B2's own lifecycle rules.")
keys = typer.Typer(help="The public keys that dumps are encrypted to.")
app.add_typer(keys, name="keys", no_args_is_help=True)
app.add_typer(rules, name="lifecycle", no_args_is_help=True)
out = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Timeout = Annotated[str, typer.Option(help="End the run after this long: 90s, 15m, 4h.")]
Jobs = Annotated[int, typer.Option(min=1, help="Parallel jobs of pg_restore.")]
Scope = Annotated[list[str] | None, typer.Argument(help="Databases; all if none is named.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="Private key to decrypt with (default: drill_key.asc).")
]


class Owners(StrEnum):
    """What becomes of owners and privileges in a restore."""

    KEEP = "keep"
    SKIP = "skip"


def _settings() -> Settings:
    return Settings.from_environment(os.environ)


def _key_file(settings: Settings, given: Path | None) -> Path:
    return given or settings.secret_path(DRILL_KEY)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2))


@app.command()
@command
def run(
    name: Annotated[str, typer.Argument(help="Database, as the registry calls it.")],
    timeout: Timeout = "4h",
    as_json: Json = False,
) -> None:
    """Back up one database: dump, compress, encrypt and upload in one pass, manifest last."""
    settings = _settings()
    database = load_registry(settings.registry).get(name)
    with time_limit(parse_duration(timeout)), progress(name) as told:
        manifest = run_backup(settings, database, told)
    if as_json:
        typer.echo(manifest.to_json().decode())


@app.command("list")
@command
def list_backups(names: Scope = None, as_json: Json = False) -> None:
    """List complete backups, oldest first. Needs no right to read objects."""
    settings = _settings()
    databases = load_registry(settings.registry).select(names or [])
    with open_store(settings, settings.b2_key(B2_KEY)) as store:
        catalogue = Catalogue(store, settings.prefix)
        found = [backup for each in databases for backup in catalogue.backups(each.name)]
    if as_json:
        _print_json(TypeAdapter(list[Backup]).dump_python(found, mode="json"))
        return
    table = Table("database", "id", "size", "age")
    now = datetime.now(UTC)
    for backup in found:
        size, age = human_bytes(backup.size), human_age(backup.age_seconds(now))
        table.add_row(backup.database, backup.id, size, age)
    out.print(table)


@app.command()
@command
def status(names: Scope = None, as_json: Json = False) -> None:
    """Show the newest backup of each database; exit 1 if one has none. Needs no right to read."""
    settings = _settings()
    databases = load_registry(settings.registry).select(names or [])
    now = datetime.now(UTC)
    with open_store(settings, settings.b2_key(B2_KEY)) as store:
        catalogue = Catalogue(store, settings.prefix)
        newest = [catalogue.newest(each.name, now) for each in databases]
    if as_json:
        _print_json(TypeAdapter(list[Newest]).dump_python(newest, mode="json"))
    else:
        table = Table("database", "newest backup", "size", "age")
        for row in newest:
            size, age = human_bytes(row.size), human_age(row.age_seconds)
            table.add_row(row.database, row.backup_id or "none", size, age)
        out.print(table)
    if any(row.backup_id is None for row in newest):
        raise typer.Exit(1)


def _find(
    settings: Settings, names: list[str], identifier: str | None, at: datetime | None = None
) -> Manifest:
    databases = load_registry(settings.registry).select(names)
    with open_store(settings, settings.b2_key(B2_KEY)) as store:
        catalogue = Catalogue(store, settings.prefix)
        return catalogue.manifest(catalogue.find(databases, identifier, at))


@app.command()
@command
def show(identifier: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Print the manifest of one backup as JSON."""
    typer.echo(_find(_settings(), [], identifier).to_json().decode())


@app.command()
@command
def verify(
    identifier: Annotated[str, typer.Argument(metavar="ID")],
    key_file: KeyFile = None,
    timeout: Timeout = "4h",
    as_json: Json = False,
) -> None:
    """Download one backup and check size, SHA-256, and that it decrypts and unpacks."""
    settings = _settings()
    with time_limit(parse_duration(timeout)):
        manifest = _find(settings, [], identifier)
        with (
            private_key(_key_file(settings, key_file), settings.scratch) as ring,
            open_store(settings, settings.b2_key(B2_KEY)) as store,
        ):
            verify_backup(store, manifest, ring, scratch=settings.scratch)
    if as_json:
        _print_json({"database": manifest.database, "id": identifier, "whole": True})
    else:
        typer.echo(f"backup {identifier} of {manifest.database} is whole")


def _target(into_env: str | None, into_file: Path | None) -> PostgresUri:
    if (into_env is None) == (into_file is None):
        raise WrongUse(
            "the target is needed once",
            hint="Give either --into-env with a variable's name or --into-file with a path.",
        )
    if into_env is not None:
        if not os.environ.get(into_env):
            raise WrongUse(
                f"environment variable {into_env} is not set",
                hint="Put the target's URI in it; give its name here, not the URI.",
            )
        return PostgresUri(os.environ[into_env], f"environment variable {into_env}")
    try:
        return PostgresUri(str(into_file and into_file.read_text()).strip(), str(into_file))
    except OSError as error:
        raise WrongUse(
            f"file {into_file} cannot be read: {error.strerror}",
            hint="Write the target's URI to it, readable by you alone.",
        ) from error


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(
            f"time {text!r} is not understood",
            hint="Give it as 2026-11-21, 2026-11-21T06:00 or with a zone; without one it is UTC.",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command()
@command
def restore(
    name: Annotated[str, typer.Argument(help="Database, as the registry calls it.")],
    identifier: Annotated[
        str | None, typer.Option("--id", help="Backup to restore (default: the newest).")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="The newest backup from this time or before it, UTC.")
    ] = None,
    into_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the target's URI.")
    ] = None,
    into_file: Annotated[Path | None, typer.Option(help="File with the target's URI.")] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the target database if it is not there.")
    ] = False,
    table: Annotated[
        list[str] | None,
        typer.Option(help="Only schema.table with its key; the target may hold other things."),
    ] = None,
    jobs: Jobs = 2,
    owners: Annotated[
        Owners, typer.Option(help="Keep owners and privileges, or own everything yourself.")
    ] = Owners.KEEP,
    create_roles: Annotated[
        bool, typer.Option("--create-roles", help="Make roles that are missing, without a login.")
    ] = False,
    key_file: KeyFile = None,
    timeout: Timeout = "4h",
    as_json: Json = False,
) -> None:
    """Restore a backup into an empty database.

    The target's URI holds a password and so is never an argument, which every user of the host
    could read: name an environment variable or a file that holds it. The plain dump is on the
    scratch disk while it is loaded.
    """
    settings = _settings()
    target = _target(into_env, into_file)
    moment = _moment(at)
    wanted = Wanted(jobs, owners.value, create, create_roles, tuple(table or ()))
    with time_limit(parse_duration(timeout)):
        manifest = _find(settings, [name], identifier, moment)
        with (
            private_key(_key_file(settings, key_file), settings.scratch) as ring,
            open_store(settings, settings.b2_key(B2_KEY)) as store,
        ):
            restore_backup(
                store, manifest, ring, target, wanted,
                scratch=settings.scratch, pg_bin=settings.pg_bin,
            )  # fmt: skip
    if as_json:
        _print_json({"database": name, "id": manifest.id, "into": target.database()})
    else:
        typer.echo(f"restored {manifest.id} of {name} into {target.database()}")


@app.command()
@command
def drill(
    names: Scope = None, jobs: Jobs = 2, timeout: Timeout = "4h", as_json: Json = False
) -> None:
    """Restore each database's newest backup into a throwaway server and compare all rows.

    Exit 1 if one of them is not equal; the others are drilled all the same. The report goes to
    <prefix>/drills/ in the bucket. Must not run as root.
    """
    settings = _settings()
    databases = load_registry(settings.registry).select(names or [])
    with time_limit(parse_duration(timeout)):
        report = run_drill(settings, databases, jobs)
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        out.print(drill_table(report))
    if not report.passed:
        raise typer.Exit(1)


def _show_rules(found: list[State], *, as_json: bool) -> None:
    if as_json:
        _print_json([state.as_json() for state in found])
        return
    table = Table("objects below", "hidden after", "deleted", "unfinished cancelled", "state")
    for state in found:
        days = [state.rule.hide_after, state.rule.delete_after, state.rule.cancel_after]
        later = ("{} d", "{} d later", "after {} d")
        told = [
            "never" if number is None else text.format(number)
            for number, text in zip(days, later, strict=True)
        ]
        style = None if state.well else "red"
        table.add_row(state.rule.prefix, *told, state.state, style=style)
    out.print(table)


@rules.command("show")
@command
def show_rules(as_json: Json = False) -> None:
    """Show how long the bucket keeps what; exit 1 if a rule is missing or different."""
    settings = _settings()
    databases = load_registry(settings.registry).database
    with open_store(settings, settings.b2_key(B2_KEY)) as store:
        _, there = store.lifecycle_rules()
    found = states([Rule.of(rule) for rule in there], settings.prefix, databases)
    _show_rules(found, as_json=as_json)
    if not all(state.well for state in found):
        raise typer.Exit(1)


@rules.command("apply")
@command
def apply_rules(as_json: Json = False) -> None:
    """Put the bucket's rules in place; those of other prefixes stay. Needs the right writeBuckets.

    Each database's backups are hidden after 16 days and deleted 14 days later, the monthly copies
    after 367 and 30. Hidden ones are listed and restored as before.
    """
    settings = _settings()
    databases = load_registry(settings.registry).database
    with open_store(settings, settings.b2_key(B2_KEY)) as store:
        found = apply(store, settings.prefix, databases)
    _show_rules(found, as_json=as_json)


@keys.command("check")
@command
def check_keys(
    days: Annotated[int, typer.Option(min=0, help="Warn this long before a key expires.")] = 60,
    as_json: Json = False,
) -> None:
    """Show until when each key serves; exit 1 if one does not, or soon will not."""
    settings = _settings()
    with public_keys(settings.secret_path(RECIPIENTS), settings.scratch) as ring:
        found = ring.keys
    soon = datetime.now(UTC) + timedelta(days=days)
    told = {
        key.fingerprint: "expired, revoked or cannot encrypt"
        if not key.encrypts
        else f"expires within {days} days"
        if key.expires and key.expires < soon
        else "well"
        for key in found
    }
    if as_json:
        _print_json(
            [
                {
                    "fingerprint": key.fingerprint,
                    "expires": key.expires and key.expires.isoformat(),
                    "state": told[key.fingerprint],
                }
                for key in found
            ]
        )
    else:
        table = Table("key", "serves until", "state")
        for key in found:
            until = f"{key.expires:%Y-%m-%d}" if key.expires else "ever"
            state = told[key.fingerprint]
            table.add_row(key.fingerprint, until, state, style=None if state == "well" else "red")
        out.print(table)
    if not found or any(state != "well" for state in told.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
