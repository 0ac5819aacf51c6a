"""Databases of a run: each session checks whom it talks to, and says who is not trusted."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from ingest import run
from tests.ingest.world import make_roles
from tests.tls import secure_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer
    from tests.ingest.world import World
    from tests.tls import Authority, Peer

AT_ONCE = 10.0  # seconds; what may pass is tried for longer
CHECK = "name: public.people\n    checks: {sql: {known: 'select true from {table} limit 1'}}"
CONNECTIONS = {"source": "hr", "warehouse": "warehouse", "checks": "warehouse_checks"}
ROLES = {"source": "ingest_reader", "warehouse": "ingest_loader", "checks": "ingest_checks"}


@pytest.fixture(scope="module")
def postgres(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PostgresServer]:
    with secure_postgres(tmp_path_factory.mktemp("tls"), authority) as server:
        yield server


@pytest.fixture(scope="module")
def roles(postgres: PostgresServer) -> dict[str, str]:
    return make_roles(postgres)


@pytest.fixture(scope="module")
def pair(postgres: PostgresServer) -> tuple[str, str]:
    return postgres.create_database(), postgres.create_database()


@pytest.mark.parametrize("side", ROLES)
def test_every_session_of_a_run(
    peer: Peer, world: World, postgres: PostgresServer, side: str
) -> None:
    world.at_source(
        "CREATE TABLE people AS SELECT n AS id FROM generate_series(1, 500) n",
        # Two that are read at the same time, by two pairs of sessions.
        "CREATE VIEW slow AS SELECT 1 AS id, pg_sleep(0.3)::text AS nap",
        "CREATE VIEW slower AS SELECT 1 AS id, pg_sleep(0.3)::text AS nap",
    )
    uri = getattr(world, side).replace("127.0.0.1", peer.host) + "?sslmode=verify-full"
    job = dataclasses.replace(world, **{side: uri}).job(CHECK, "public.slow", "public.slower")
    size, began = postgres.log.stat().st_size, time.monotonic()
    if peer.fault:
        with pytest.raises(Failure) as caught:
            run.run(job)
        assert time.monotonic() - began < AT_ONCE
        what = "source hr" if side == "source" else "warehouse"
        told, _, hint = str(caught.value).partition("\nHINT: ")
        assert told.endswith(f"{what}: expected a connection, found {peer.fault}")
        assert hint.endswith(f"It is the server of connection {CONNECTIONS[side]}.")
    else:
        assert len(run.run(job).loaded) == 3
    said = postgres.log.read_bytes()[size:].decode().splitlines()
    logins = [line for line in said if f"authorized: user={ROLES[side]}" in line]
    assert all("SSL enabled" in line for line in logins)
    if peer.fault:
        assert not logins
    else:
        assert len(logins) >= (1 if side == "checks" else 2)
