"""Make one backup."""

from __future__ import annotations

from typing import Annotated

import structlog
import typer

from backup.alerts import Alerts
from backup.commands.app import Json, Timeout, app, read_settings
from backup.console import command, progress
from backup.deadline import parse_duration, time_limit
from backup.dump import run_backup
from backup.errors import BackupError
from backup.registry import load_registry

log = structlog.get_logger()


@app.command()
@command
def run(
    name: Annotated[str, typer.Argument(help="Database, as the registry calls it.")],
    timeout: Timeout = "4h",
    as_json: Json = False,
) -> None:
    """Back up one database: dump, compress, encrypt and upload in one pass, manifest last."""
    settings = read_settings()
    entry = load_registry(settings.registry).get(name)
    with time_limit(parse_duration(timeout)), progress(name) as told:
        manifest = run_backup(settings, entry, told)
    try:
        Alerts.of(settings).good(name)
    except BackupError as error:  # the backup is there; only nobody is told of it
        log.warning(error.message, hint=error.hint)
    if as_json:
        typer.echo(manifest.to_json().decode())
