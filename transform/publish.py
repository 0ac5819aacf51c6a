"""Moves sound marts in front of readers: each in one short transaction, whole or not at all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import psycopg
import tenacity
from psycopg import sql

from transform.build import BUILD_SCHEMA, MARTS_SCHEMA
from transform.errors import UnpublishedError

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

# Who wants to read a mart waits behind the swap that waits for a reader: no longer than this.
LOCK_TIMEOUT = "1s"
ATTEMPTS = 12
MOST_WAIT = 15.0  # seconds between two attempts; a dashboard's query ends within half a minute


def publish(
    connection: psycopg.Connection[Any], marts: Iterable[str]
) -> dict[str, UnpublishedError]:
    """Move each of ``marts`` from the schema of builds into that of readers.

    A reader sees the old table or the new one, and waits a second at most. Indexes, comments and
    grants of the new table come with it. ``connection`` is in autocommit. Returns why, for each
    that could not be moved; its readers keep the table they have.
    """
    refused = {}
    for mart in marts:
        try:
            _swap(connection, mart)
        except UnpublishedError as error:
            refused[mart] = error
        else:
            log.info("published %s.%s", MARTS_SCHEMA, mart)
    return refused


def _swap(connection: psycopg.Connection[Any], mart: str) -> None:
    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(psycopg.errors.LockNotAvailable),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential_jitter(initial=1, max=MOST_WAIT),
        reraise=True,
    )
    old, new = sql.Identifier(MARTS_SCHEMA, mart), sql.Identifier(BUILD_SCHEMA, mart)
    try:
        for attempt in attempts:
            with attempt, connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_TIMEOUT])
                connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(old))
                connection.execute(
                    sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(
                        new, sql.Identifier(MARTS_SCHEMA)
                    )
                )
    except psycopg.Error as error:
        raise _explained(error, f"mart {MARTS_SCHEMA}.{mart}") from error


def _explained(error: psycopg.Error, mart: str) -> UnpublishedError:
    message = error.diag.message_primary or str(error).strip()
    if isinstance(error, psycopg.errors.DependentObjectsStillExist):
        return UnpublishedError(
            f"{mart}: expected nothing that depends on it, found {error.diag.message_detail}",
            "Make the view a model of the project, or drop it; the mart keeps its former rows.",
        )
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return UnpublishedError(
            f"{mart}: expected a moment without a reader, found none in {ATTEMPTS} attempts",
            "Find the session that holds it in pg_stat_activity, end it and run the models again.",
        )
    if isinstance(error, psycopg.errors.WrongObjectType):
        return UnpublishedError(
            f"{mart}: expected a table or nothing, found: {message}",
            "Drop or rename what was made there by hand; the name belongs to a model.",
        )
    return UnpublishedError(
        f"{mart}: PostgreSQL refused to publish it: {message}",
        "Mend what it says and run the models again; the mart keeps its former rows.",
    )
