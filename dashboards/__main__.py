"""The command ``dashboards`` and its verbs."""

from __future__ import annotations

import os

from dashboards import migrate as migration
from dashboards.settings import Settings
from frame.application import Application, definitions, epilog, exit_codes

app = Application(
    "dashboards",
    help="Superset's database, roles and connection, and dashboards from files.",
    epilog=epilog(
        definitions("Settings, from the environment", Settings.explained()), exit_codes()
    ),
)


@app.command()
def migrate() -> None:
    """Bring Superset's database to this version, and its roles and connection to ours."""
    migration.migrate(Settings.from_environment(os.environ))


@app.command()
def wait() -> None:
    """Wait until the database is migrated to this version, at most 15 minutes."""
    migration.wait(Settings.from_environment(os.environ))


if __name__ == "__main__":
    app.run()
