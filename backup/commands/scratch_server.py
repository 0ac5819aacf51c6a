"""The drill's server, as another user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from backup.commands.app import app
from backup.scratch.confinement import check_border, shut_in
from backup.scratch.supervisor import Place, Supervisor
from backup.settings import Settings
from frame.failure import ExitCode, Stopped


@app.command("scratch-server")
def scratch_server(
    directory: Annotated[
        Path, typer.Argument(help="Directory of the server's sockets: BACKUP_SCRATCH_SERVER.")
    ],
    scratch: Annotated[
        Path,
        typer.Option(envvar="BACKUP_SCRATCH", help="Directory of its data; all in it is removed."),
    ],
    wipe: Annotated[
        list[Path] | None,
        typer.Option(help="Another directory that this user can write to, emptied as well."),
    ] = None,
    pg_root: Annotated[
        Path,
        typer.Option(envvar="BACKUP_PG_ROOT", help="Directory of PostgreSQL's programs."),
    ] = Settings.model_fields["pg_root"].default,
) -> None:
    """Lease empty PostgreSQL servers to drills, one at a time.

    What drills restore is strangers' code with a superuser's rights, so this runs in a container
    without network, as a user of its own that no secret is given to. When a drill ends, or dies,
    all else in the container is killed and what it wrote is removed.
    """
    check_border()
    shut_in()
    place = Place(directory.absolute(), scratch.absolute(), pg_root, tuple(wipe or ()))
    try:
        Supervisor(place).serve()
    except Stopped as stopped:  # which is how a server ends
        if stopped.exit_code != ExitCode.TERMINATED:
            raise
