"""Airflow's own engines, on a server whose certificate an authority of our own has issued."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from frame import trust
from scripts.repository import ROOT
from tests.tls import PUBLIC, Authority, secure_postgres

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.programs

ASK = """
import asyncio
from sqlalchemy import text
from airflow import settings

QUERY = text("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
with settings.engine.connect() as connection:
    print("SYNC", settings.engine.driver, connection.execute(QUERY).scalar())

async def ask():
    async with settings.async_engine.connect() as connection:
        print("ASYNC", settings.async_engine.driver, (await connection.execute(QUERY)).scalar())

asyncio.run(ask())
"""


@pytest.mark.parametrize("own", [False, True])
def test_the_documented_uri_connects_where_the_authority_is_trusted(
    airflow_program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, own: bool
) -> None:
    authority = Authority()
    with secure_postgres(tmp_path, authority) as server:
        uri = server.uri().replace("postgresql:", "postgresql+psycopg2:")
        done = airflow_program(
            "import os, sys; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
            "-m", "frame.trust", sys.executable, "-W", "ignore", "-c", ASK,
            PYTHONPATH=f"{ROOT}/airflow:{ROOT}/airflow/config:{ROOT}",
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"{uri}?sslmode=verify-full",
            SSL_CERT_FILE=PUBLIC,
            **({trust.OWN: authority.pem} if own else {}),
        )  # fmt: skip
    if own:
        assert done.returncode == 0, done.stderr[-3000:]
        said = [line.split() for line in done.stdout.splitlines() if "SYNC" in line]
        assert said == [["SYNC", "psycopg2", "TLSv1.3"], ["ASYNC", "psycopg", "TLSv1.3"]]
    else:
        assert done.returncode == 1
        assert "certificate verify failed" in done.stderr
        assert server.password not in done.stderr
