"""Look after the keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from backup.commands.app import Timeout, app, out, read_settings
from backup.deadline import limited
from backup.openpgp.expiry import WARN_DAYS, key_states
from backup.settings import RECIPIENTS, SIGNING_KEY
from frame.failure import WrongUse
from frame.output import AsJson, print_json, table

keys = typer.Typer(help="The keys that encrypt dumps, and the one that signs.")
app.add_typer(keys, name="keys", no_args_is_help=True)


@keys.command("check")
@limited
def check_keys(
    days: Annotated[
        int, typer.Option(min=0, help="Warn this long before a key expires.")
    ] = WARN_DAYS,
    timeout: Timeout = "2m",
    as_json: AsJson = False,
) -> None:
    """Show until when each key serves.

    Exit 1 if one does not serve, or soon will not.
    """
    settings = read_settings()
    found = list(key_states(settings, datetime.now(UTC), days))
    if not found:
        raise WrongUse(
            f"neither {RECIPIENTS} nor {SIGNING_KEY} is in {settings.secrets_dir}",
            hint="Let the job's Vault template render them, readable by the task's user.",
        )
    if as_json:
        print_json([state.model_dump(mode="json") for state in found])
    else:
        states = table("use", "key", "serves until", "state")
        for state in found:
            style = None if state.well else "red"
            until = state.expires or "ever"
            states.add_row(state.use, state.fingerprint, until, state.state, style=style)
        out.print(states)
    if not all(state.well for state in found):
        raise typer.Exit(1)
