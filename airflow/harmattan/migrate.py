"""``python -m harmattan.migrate``: bring Airflow's database to this image's schema, once.

Any number of these may start at the same moment: they take turns under a lock of their own and all
but the first find nothing to do. (Airflow's own lock gives a second migrator 1.8 seconds and then
fails it: ``LOCK_TIMEOUT`` is set to 1800, and PostgreSQL reads milliseconds.)
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from frame import database, rights
from frame.failure import Failure
from harmattan import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psycopg

# Any number that no other program uses on Airflow's database ("harm" in ASCII).
LOCK = 0x6861726D
# The longest that another migration may take before this one gives up, in milliseconds.
LOCK_TIMEOUT = 30 * 60 * 1000
# How long a database that does not answer is waited for, in seconds: the cluster may come back in
# any order, and a server that recovers from a crash takes minutes.
DATABASE_TIMEOUT = 30 * 60
PAGE = "docs/runbook.md#a-secret-in-airflows-own-database"
# Who writes these becomes administrator, or lends tasks a connection that is not from Vault.
GUARDED = (
    "ab_user", "ab_role", "ab_user_role", "ab_permission_view_role",
    "ab_group", "ab_group_role", "ab_user_group", "ab_register_user",
    "session", "connection",
)  # fmt: skip


@contextmanager
def only_one(uri: str) -> Iterator[None]:
    """Hold the platform's migration lock, waiting up to 30 minutes each for database and lock.

    The lock ends with the connection, so a killed migration never leaves it behind.
    """
    connection = _connect(uri)
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT}")
            cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        yield
    finally:
        connection.close()


def _connect(uri: str) -> psycopg.Connection[tuple[Any, ...]]:
    return database.opened(
        uri, name="Airflow's database", purpose="harmattan.migrate", patience=DATABASE_TIMEOUT
    )


def guard(uri: str, webserver: str, cleaner: str) -> None:
    """Let nobody but the role ``webserver`` and the owner write accounts, roles and connections.

    Every job's role may write the rows of every other table; those of new tables too. But the role
    ``cleaner`` deletes old rows, of the tables where they gather, and writes none.
    """
    with closing(_connect(uri)) as connection, connection.cursor() as cursor:
        print(clean.allow(cursor, cleaner), flush=True)
        for said in rights.guard(cursor, GUARDED, webserver, cleaner):
            print(said, flush=True)


def warn_of_secrets(uri: str) -> None:
    """Name each connection and secret variable that stands in Airflow's database.

    Every task may read them there, whosever they are.
    """
    from airflow._shared.secrets_masker import should_hide_value_for_key

    with closing(_connect(uri)) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT 'connection', conn_id FROM connection"
            " UNION ALL SELECT 'variable', key FROM variable ORDER BY 1, 2"
        )
        for kind, name in cursor.fetchall():
            if kind == "connection" or should_hide_value_for_key(name):
                print(
                    f"warning: the {kind} {name} stands in Airflow's own database, where every task"
                    f" may read it: move it to Vault ({PAGE})",
                    flush=True,
                )


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
    """Migrate, then set the roles, the first administrator and who may write such."""
    from airflow.configuration import conf

    from harmattan import accounts

    uri = conf.get_mandatory_value("database", "sql_alchemy_conn")
    try:
        with only_one(uri):
            migrate()
            guard(uri, os.environ["HARMATTAN_WEBSERVER_ROLE"], os.environ["HARMATTAN_CLEAN_ROLE"])
            warn_of_secrets(uri)
            admin = json.loads(Path(os.environ["HARMATTAN_ADMIN_FILE"]).read_text())
            accounts.set_up(username=admin["username"], password=admin["password"])
    except Failure as failure:
        sys.exit(str(failure))


if __name__ == "__main__":
    main()
