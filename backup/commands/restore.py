"""Look whether one backup is whole, and bring it back."""

from __future__ import annotations

import os
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from backup.bucket.catalogue import open_catalogue
from backup.commands.app import (
    CORES,
    Identifier,
    Jobs,
    KeyFile,
    Timeout,
    Unsigned,
    app,
    find_backup,
    parse_moment,
    read_settings,
)
from backup.commands.restored import IN_PART, show_file, show_findings, show_restored
from backup.deadline import limited
from backup.kinds import KINDS
from backup.kinds.database import place_of
from backup.kinds.database import restore as restore_database
from backup.openpgp.crypt import private_key
from backup.postgres.connection import PostgresUri
from backup.restoration.finding import refuse
from backup.restoration.steps import Encrypted, look
from backup.restoration.target import Wanted
from backup.restoration.unpack import extract
from backup.restoration.unpack import verify as verify_backup
from backup.settings import DRILL_KEY, read_text
from frame.application import exit_codes
from frame.failure import WrongUse
from frame.output import AsJson, print_json
from frame.progress import progress


class Owners(StrEnum):
    """What becomes of owners and privileges in a restore."""

    KEEP = "keep"
    SKIP = "skip"


IN_PARTS = {IN_PART: "restored but for some objects, which are listed"}


@app.command()
@limited
def verify(
    identifier: Identifier,
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


def _target(into_env: str | None, into_file: str | None, to: Path | None) -> PostgresUri | Path:
    if sum(given is not None for given in (into_env, into_file, to)) != 1:
        raise WrongUse(
            "the target is needed once",
            hint="Give --into-env with a variable's name, --into-file with a path, or --to.",
        )
    if to is not None:
        return to
    if "://" in f"{into_env}{into_file}":  # with its password: not one word of it is repeated
        raise WrongUse(
            "a URI was given where the name of a variable or of a file belongs",
            hint="Put the URI into a variable and give that one's name; all users of this host "
            "could read what you typed, so change its password.",
        )
    if into_env is not None:
        if not os.environ.get(into_env):
            raise WrongUse(
                f"environment variable {into_env} is not set",
                hint="Put the target's URI in it; give its name here, not the URI.",
            )
        return PostgresUri(os.environ[into_env], f"environment variable {into_env}")
    path = Path(into_file or "")
    uri = read_text(path, "Write the target's URI to it, readable by you alone.")
    return PostgresUri(uri, str(path))


@app.command(epilog=exit_codes(IN_PARTS))
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
    into_file: Annotated[str | None, typer.Option(help="File with the target's URI.")] = None,
    to: Annotated[
        Path | None,
        typer.Option(help="Write the plain dump to this new file, and load it nowhere."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Look at all that a restore needs, and end there.")
    ] = False,
    create: Annotated[
        bool, typer.Option("--create", help="Make the target database if it is not there.")
    ] = False,
    create_roles: Annotated[
        bool,
        typer.Option(
            "--create-roles",
            help="Make roles that are missing as they were, but without a login.",
        ),
    ] = False,
    owners: Annotated[
        Owners, typer.Option(help="Keep owners and privileges, or own everything yourself.")
    ] = Owners.KEEP,
    no_tablespaces: Annotated[
        bool, typer.Option("--no-tablespaces", help="Put everything into the default one.")
    ] = False,
    table: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEMA.TABLE",
            help="Restore only this table with all that belongs to it; the target may hold more.",
        ),
    ] = None,
    exclude_table: Annotated[
        list[str] | None,
        typer.Option(metavar="SCHEMA.TABLE", help="Restore all but this table."),
    ] = None,
    into_schema: Annotated[
        str, typer.Option(help="Restore the tables of --table into this schema.")
    ] = "",
    beside: Annotated[
        bool,
        typer.Option(
            "--beside", help="Allow a target that holds other things; a name in both is an error."
        ),
    ] = False,
    keep_going: Annotated[
        bool | None,
        typer.Option(
            "--keep-going/--stop",
            help="Load the rest where an object does not load, and list it; or stop there "
            "(default: stop, but with --check keep going).",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Compare all rows and objects, as a drill does.")
    ] = False,
    jobs: Jobs = CORES,
    key_file: KeyFile = None,
    unsigned: Annotated[
        bool,
        typer.Option(
            "--unsigned", help="Accept the one of --id although its signature cannot be checked."
        ),
    ] = False,
    timeout: Timeout = "4h",
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty database.

    What it needs is looked at first: key, signature, room, versions, extensions, roles,
    tablespaces, locale, connections, and that the target is empty. Nothing is downloaded before
    all of it is there. Others can connect to the target once it is whole.

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
    wanted = Wanted(
        jobs=jobs,
        owners=owners.value,
        create=create,
        create_roles=create_roles,
        tables=tuple(table or ()),
        excluded=tuple(exclude_table or ()),
        schema=into_schema,
        beside=beside,
        tablespaces="skip" if no_tablespaces else "keep",
        keep_going=check if keep_going is None else keep_going,
        check=check,
    )
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
            backup = Encrypted(catalogue.store, manifest, ring, signed=not unsigned)
            place = place_of(settings)
            if isinstance(target, Path):
                findings = look(backup, None, wanted, place.beside(target))
            elif dry_run:
                findings = look(backup, target, wanted, place)
            if dry_run:
                raise typer.Exit(show_findings(chosen, findings, as_json=as_json))
            if isinstance(target, Path):
                refuse(findings, name)
                extract(catalogue.store, manifest, ring, target)
                show_file(chosen, str(target), as_json=as_json)
                return
            restored = restore_database(settings, catalogue, backup, target, wanted)
    if code := show_restored(chosen, restored, target.database(), as_json=as_json):
        raise typer.Exit(code)
