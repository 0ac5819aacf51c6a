"""Look whether one backup is whole, and bring it back."""

from __future__ import annotations

import os
from dataclasses import asdict
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backup.bucket.catalogue import open_catalogue
from backup.commands.app import (
    Jobs,
    KeyFile,
    Timeout,
    Unsigned,
    app,
    find_backup,
    parse_moment,
    read_settings,
)
from backup.deadline import limited
from backup.kinds import KINDS
from backup.kinds.database import restore as restore_database
from backup.openpgp.crypt import private_key
from backup.postgres.connection import PostgresUri
from backup.postgres.target import Wanted
from backup.restore import extract
from backup.restore import verify as verify_backup
from backup.settings import DRILL_KEY, read_text
from frame.failure import WrongUse
from frame.output import AsJson, print_json
from frame.progress import progress


class Owners(StrEnum):
    """What becomes of owners and privileges in a restore."""

    KEEP = "keep"
    SKIP = "skip"


@app.command()
@limited
def verify(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="Id of the backup, as `backup list` shows it.")
    ],
    key_file: KeyFile = None,
    unsigned: Unsigned = False,
    timeout: Timeout = "4h",
    as_json: AsJson = False,
) -> None:
    """Check that one backup is whole.

    Download it and check its signature, size and SHA-256, and that it decrypts and unpacks.
    """
    settings = read_settings()
    with (
        progress() as advance,
        open_catalogue(
            settings, partial(advance, identifier), key_file=key_file, unsigned=unsigned
        ) as catalogue,
    ):
        manifest = find_backup(catalogue, settings, [], identifier).manifest
        with private_key(key_file or settings.secret_path(DRILL_KEY)) as ring:
            verify_backup(catalogue.store, manifest, ring)
    if as_json:
        print_json({"database": manifest.database, "id": identifier, "whole": True})
    else:
        typer.echo(f"backup {identifier} of {manifest.database} is whole")


def _target(into_env: str | None, into_file: Path | None, to: Path | None) -> PostgresUri | Path:
    if sum(given is not None for given in (into_env, into_file, to)) != 1:
        raise WrongUse(
            "the target is needed once",
            hint="Give --into-env with a variable's name, --into-file with a path, or --to.",
        )
    if to is not None:
        return to
    if into_env is not None:
        if not os.environ.get(into_env):
            raise WrongUse(
                f"environment variable {into_env} is not set",
                hint="Put the target's URI in it; give its name here, not the URI.",
            )
        return PostgresUri(os.environ[into_env], f"environment variable {into_env}")
    assert into_file is not None  # noqa: S101 - one of the three is given
    uri = read_text(into_file, "Write the target's URI to it, readable by you alone.")
    return PostgresUri(uri, str(into_file))


@app.command()
@limited
def restore(
    name: Annotated[str, typer.Argument(help="Database, as the registry calls it.")],
    identifier: Annotated[
        str | None, typer.Option("--id", help="Backup to restore (default: the newest trusted).")
    ] = None,
    at: Annotated[
        str | None, typer.Option(help="The newest backup from this time or before it, UTC.")
    ] = None,
    into_env: Annotated[
        str | None, typer.Option(help="Environment variable that holds the target's URI.")
    ] = None,
    into_file: Annotated[Path | None, typer.Option(help="File with the target's URI.")] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Write the plain dump to this new file, and load it nowhere."),
    ] = None,
    create: Annotated[
        bool, typer.Option("--create", help="Make the target database if it is not there.")
    ] = False,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEMA.TABLE",
            help="Restore only this table and its key; the target may hold other things.",
        ),
    ] = None,
    beside: Annotated[
        bool,
        typer.Option(
            "--beside", help="Allow a target that holds other things; a name in both is an error."
        ),
    ] = False,
    jobs: Jobs = 2,
    owners: Annotated[
        Owners, typer.Option(help="Keep owners and privileges, or own everything yourself.")
    ] = Owners.KEEP,
    create_roles: Annotated[
        bool, typer.Option("--create-roles", help="Make roles that are missing, without a login.")
    ] = False,
    key_file: KeyFile = None,
    unsigned: Unsigned = False,
    timeout: Timeout = "4h",
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty database.

    The target's URI holds a password and so is never an argument, which every user of the host
    could read: name an environment variable or a file that holds it. The plain dump is on the
    scratch disk while it is loaded. What is no database - a server's roles, a snapshot of Nomad or
    Vault - goes to a file.
    """
    if unsigned and identifier is None:
        raise WrongUse(
            "--unsigned takes what nobody can vouch for, so it is not chosen for you",
            hint="Name the backup by --id as well; `backup list` shows them.",
        )
    settings = read_settings()
    target = _target(into_env, into_file, to)
    moment = parse_moment(at)
    wanted = Wanted(jobs, owners.value, create, create_roles, tuple(table or ()), beside)
    with (
        progress() as advance,
        open_catalogue(
            settings, partial(advance, name), key_file=key_file, unsigned=unsigned
        ) as catalogue,
    ):
        chosen = find_backup(catalogue, settings, [name], identifier, moment)
        manifest = chosen.manifest
        if manifest.kind != "database" and not isinstance(target, Path):
            raise WrongUse(
                f"{name} is no database but {KINDS[manifest.kind].WORDS}",
                hint="Give --to FILE; the runbook says what to do with it.",
            )
        with private_key(key_file or settings.secret_path(DRILL_KEY)) as ring:
            if isinstance(target, Path):
                extract(catalogue.store, manifest, ring, target)
                into = str(target)
            else:
                restore_database(
                    catalogue.store, manifest, ring, target, wanted,
                    scratch=settings.scratch, pg_root=settings.pg_root,
                )  # fmt: skip
                into = target.database()
    if as_json:
        passed_over = [asdict(passed) for passed in chosen.passed_over]
        print_json({"database": name, "id": manifest.id, "into": into, "passed_over": passed_over})
    else:
        typer.echo(f"restored {manifest.id} of {name} into {into}")
