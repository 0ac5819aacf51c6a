"""``python -m harmattan.migrate``: bring Airflow's database to this image's schema, once.

Any number of these may start at the same moment: they take turns under a lock of their own and all
but the first find nothing to do. (Airflow's own lock gives a second migrator 1.8 seconds and then
fails it: ``LOCK_TIMEOUT`` is set to 1800, and PostgreSQL reads milliseconds.)
"""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg2

if TYPE_CHECKING:
    from collections.abc import Iterator

# Any number that no other program uses on Airflow's database ("harm" in ASCII).
LOCK = 0x6861726D
# The longest that another migration may take before this one gives up, in milliseconds.
LOCK_TIMEOUT = 30 * 60 * 1000


@contextmanager
def only_one(uri: str) -> Iterator[None]:
    """Hold the platform's migration lock, waiting for it up to 30 minutes.

    The lock ends with the connection, so a killed migration never leaves it behind.
    """
    connection = psycopg2.connect(
        uri.replace("postgresql+psycopg2:", "postgresql:"),
        connect_timeout=10,
        application_name="harmattan.migrate",
    )
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = %s", (LOCK_TIMEOUT,))
            cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        yield
    finally:
        connection.close()


def migrate() -> None:
    """Migrate Airflow's and the FAB auth manager's tables if they are not at this image's heads."""
    from airflow.utils import db

    if _is_current():
        print("the schema is current: nothing to migrate", flush=True)
        return
    print("migrating", flush=True)
    db.upgradedb()
    print("migrated", flush=True)


def _is_current() -> bool:
    from airflow.utils import db

    try:
        db.check_migrations(timeout=0)
    except TimeoutError:
        return False
    return True


def main() -> None:
    """Migrate, then set the roles and the first administrator."""
    from airflow.configuration import conf

    from harmattan import accounts

    with only_one(conf.get_mandatory_value("database", "sql_alchemy_conn")):
        migrate()
        admin = json.loads(Path(os.environ["HARMATTAN_ADMIN_FILE"]).read_text())
        accounts.set_up(username=admin["username"], password=admin["password"])


if __name__ == "__main__":
    main()
