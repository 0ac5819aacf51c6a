"""Two empty databases for each test of the school, and a school to look at."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from standins.school.load import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

    Connection = psycopg.Connection[Any]

# To empty a database takes a tenth of the time that making and dropping one does.
EMPTY = "DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner"


@pytest.fixture(scope="module")
def two(postgres: PostgresServer) -> Iterator[tuple[Connection, Connection]]:
    uris = postgres.create_database(), postgres.create_database()
    first, second = (psycopg.connect(uri, autocommit=True) for uri in uris)
    with closing(first), closing(second):
        yield first, second


@pytest.fixture
def connection(two: tuple[Connection, Connection]) -> Connection:
    two[0].execute(EMPTY)
    return two[0]


@pytest.fixture
def other(two: tuple[Connection, Connection]) -> Connection:
    two[1].execute(EMPTY)
    return two[1]


@pytest.fixture(scope="module")
def school(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """Return the database that the module's ``DATABASE`` names, at its ``SCALE``, to be read."""
    with closing(psycopg.connect(postgres.create_database(), autocommit=True)) as connection:
        load(connection, request.module.DATABASE, request.module.SCALE, 7)
        yield connection
