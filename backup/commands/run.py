"""Make one backup."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from backup.commands.app import Timeout, app, read_settings
from backup.deadline import limited
from backup.dump import run_backup
from backup.proof.alerts import Alerts
from backup.registry import load_registry
from frame.failure import Failure
from frame.log import get_logger
from frame.output import AsJson, print_json_text
from frame.progress import progress

log = get_logger(__name__)


@app.command()
@limited
def run(
    name: Annotated[str, typer.Argument(help="Database, as the registry calls it.")],
    timeout: Timeout = "4h",
    as_json: AsJson = False,
) -> None:
    """Make one backup.

    Dump, compress, encrypt and upload in one pass, the manifest last.
    """
    settings = read_settings()
    entry = load_registry(settings.registry).get(name)
    with progress() as advance:
        manifest = run_backup(settings, entry, partial(advance, name))
    try:
        Alerts.of(settings).good(name)
    except Failure as error:  # the backup is there; only nobody is told of it
        log.warning(error.message, hint=error.hint)
    if as_json:
        print_json_text(manifest.to_json().decode())
