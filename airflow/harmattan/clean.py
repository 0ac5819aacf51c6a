"""``python -m harmattan.clean DAYS``: delete from Airflow's database what is older than DAYS.

It is the image's own ``airflow db clean`` without archives: the last scheduled run of every DAG
stays. Rows go in batches, each a transaction of its own, and no statement waits for long: a run of
this beside the scheduler holds up nobody, and where one was killed the next goes on.
"""

from __future__ import annotations

import io
import sys
import time
from collections import Counter
from contextlib import closing, redirect_stdout
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from frame.failure import Failure, without_passwords
from harmattan import schema

if TYPE_CHECKING:
    from pendulum import DateTime

BATCH = 5000  # rows that a transaction deletes, each with what depends on it
LIMIT = 1800.0  # seconds after which no other batch begins
# Of each statement: a row that is locked for longer is for the next run.
BOUNDS = "SET lock_timeout = '10s'; SET statement_timeout = '5min'"
# Where `airflow db clean` puts a batch before it deletes it: the schema of the role's own name.
LEFT_BEHIND = "SELECT tablename FROM pg_tables WHERE schemaname = current_user"
# What it reads beside the tables that it cleans.
READ = ("alembic_version", "alembic_version_fab", "asset_partition_dag_run")

# All that the role may do: rows that depend on deleted ones go by the rights of the owner.
_RIGHTS = """
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role};
GRANT SELECT ON {read} TO {role};
GRANT SELECT, DELETE ON {cleaned} TO {role}
"""


@dataclass
class Deletions:
    """What SQLAlchemy's engine did: rows that were deleted, by table, and errors in its words."""

    ends: float
    rows: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)

    def listen(self, engine: Any) -> None:
        """Count, bound and note what ``engine`` does from now on."""
        from sqlalchemy import event

        event.listen(engine, "connect", self._bound)
        event.listen(engine, "before_cursor_execute", self._before)
        event.listen(engine, "after_cursor_execute", self._after)
        event.listen(engine, "handle_error", self._failed)

    def _bound(self, connection: Any, _: Any) -> None:
        with closing(connection.cursor()) as cursor:
            cursor.execute(BOUNDS)
        connection.commit()

    def _before(self, *arguments: Any) -> None:
        # A batch begins with the table that it puts its rows into.
        if arguments[2].startswith("CREATE TABLE") and time.monotonic() > self.ends:
            raise Failure(
                f"not all old rows could be deleted within {LIMIT:.0f} s",
                "Run it again: it goes on from here.",
            )

    def _after(self, *arguments: Any) -> None:
        cursor, context = arguments[1], arguments[4]
        if context.isdelete:
            self.rows[context.compiled.statement.table.name] += cursor.rowcount

    def _failed(self, context: Any) -> None:
        words = str(context.original_exception).strip().splitlines()
        self.errors.append(without_passwords(words[0]) if words else "no words")


def cleaned_tables(cursor: Any) -> list[str]:
    """Return the tables of the database that this image's ``airflow db clean`` cleans."""
    from airflow.utils.db_cleanup import config_dict

    cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return sorted(config_dict.keys() & {name for (name,) in cursor.fetchall()})


def allow(cursor: Any, role: str) -> str:
    """Give ``role`` the rights that cleaning takes and no others; return what to say of it.

    ``cursor`` is of the tables' owner.
    """
    from psycopg import sql

    cursor.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,))
    if not cursor.rowcount:
        return f"there is no role {role}: nothing old is deleted (docs/runbook.md#databases)"
    names = {"read": READ, "cleaned": cleaned_tables(cursor)}
    tables = {
        name: sql.SQL(", ").join(sql.Identifier("public", table) for table in each)
        for name, each in names.items()
    }
    cursor.execute(sql.SQL(_RIGHTS).format(role=sql.Identifier(role), **tables))
    return f"{role} may delete old rows of {len(names['cleaned'])} tables"


def clean(before: DateTime, deletions: Deletions) -> None:
    """Delete what is older than ``before``; ``deletions`` then has what was deleted.

    Raises :class:`Failure` if a table could not be cleaned or time was over.
    """
    from airflow.utils import db_cleanup
    from airflow.utils.session import create_session
    from sqlalchemy import text

    from airflow import settings

    deletions.listen(settings.engine)
    with create_session() as session:
        for table in session.scalars(text(LEFT_BEHIND)).all():
            session.execute(text(f'DROP TABLE "{table}"'))
        tables = cleaned_tables(session.connection().connection.cursor())
        session.commit()
        try:
            with redirect_stdout(io.StringIO()):  # ten lines a table
                db_cleanup.run_cleanup(
                    clean_before_timestamp=before,
                    table_names=tables,
                    confirm=False,
                    skip_archive=True,
                    batch_size=BATCH,
                    error_on_cleanup_failure=True,
                    session=session,
                )
        except RuntimeError as error:
            raise Failure(
                f"{error}: {'; '.join(dict.fromkeys(deletions.errors))}",
                "Look at Airflow's database and the rights of this job's role.",
            ) from None


def main() -> None:
    """Clean once; exit 1 with a clear error if it could not be done."""
    import pendulum

    days, started = int(sys.argv[1]), time.monotonic()
    deletions = Deletions(started + LIMIT)
    try:
        _at_this_images_schema()
        clean(pendulum.now("UTC").subtract(days=days), deletions)
    except Failure as failure:
        sys.exit(f"error: {failure.message}\nHINT: {failure.hint}")
    finally:
        for table, count in sorted(deletions.rows.items()):
            print(f"{table}: {count} rows deleted", flush=True)
    seconds = time.monotonic() - started
    print(f"{deletions.rows.total()} rows older than {days} days deleted in {seconds:.1f} s")


def _at_this_images_schema() -> None:
    from airflow.configuration import conf

    uri = conf.get_mandatory_value("database", "sql_alchemy_conn")
    if schema.found(uri, LIMIT) != schema.wanted():
        raise Failure(
            "Airflow's database has another schema than this image",
            "Run airflow-migrate of the same image; this job's next launch then does its work.",
        )


if __name__ == "__main__":
    main()
