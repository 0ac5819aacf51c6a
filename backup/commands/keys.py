"""Look after the keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from backup.commands.app import Json, app, out, print_json, read_settings
from backup.console import command
from backup.expiry import WARN_DAYS, key_states

keys = typer.Typer(help="The keys that dumps are encrypted to, and the one that signs.")
app.add_typer(keys, name="keys", no_args_is_help=True)


@keys.command("check")
@command
def check_keys(
    days: Annotated[
        int, typer.Option(min=0, help="Warn this long before a key expires.")
    ] = WARN_DAYS,
    as_json: Json = False,
) -> None:
    """Show until when each key serves; exit 1 if one does not, or soon will not."""
    settings = read_settings()
    told = list(key_states(settings, {}, datetime.now(UTC), days))
    if as_json:
        print_json([state.model_dump(mode="json") for state in told])
    else:
        table = Table("use", "key", "serves until", "state")
        for state in told:
            style = None if state.well else "red"
            until = state.expires or "ever"
            table.add_row(state.use, state.fingerprint, until, state.state, style=style)
        out.print(table)
    if not told or not all(state.well for state in told):
        raise typer.Exit(1)
