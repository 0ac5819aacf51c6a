#!.venv/bin/python
"""Show one of the local platform's secrets, such as airflow-admin; without a name, list them."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from frame.application import Application, exit_codes
from frame.failure import WrongUse
from scripts.repository import SECRETS, read_secret

app = Application("scripts/show.py")


@app.command(epilog=exit_codes({0: "shown"}))
def main(name: Annotated[str | None, typer.Argument(help="The secret's name.")] = None) -> None:
    """Show one of the local platform's secrets, such as airflow-admin, or list their names."""
    names = sorted(path.stem for path in SECRETS.glob("*.json"))
    if name is None:
        print("\n".join(names))
        return
    if name not in names:
        raise WrongUse(
            f"there is no secret {name!r}", f"The names are: {', '.join(names) or 'none yet'}."
        )
    value = read_secret(name)
    print(value if isinstance(value, str) else json.dumps(value, indent=2))


if __name__ == "__main__":
    app.run()
