"""A real MariaDB of the test run's own."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pymysql
import pytest

from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class MariaDb:
    """A running MariaDB on 127.0.0.1 with an empty database, and a login that may read it."""

    port: int
    socket: Path
    password: str
    database: str = "moodle"
    login: str = "analysts"

    @property
    def uri(self) -> str:
        return f"mysql://{self.login}:{self.password}@127.0.0.1:{self.port}/{self.database}"

    def execute(self, *statements: str) -> None:
        """Run and commit statements as its administrator."""
        with (
            pymysql.connect(unix_socket=str(self.socket), user="root") as connection,
            connection.cursor() as cursor,
        ):
            for statement in statements:
                cursor.execute(statement)
            connection.commit()


@contextmanager
def started_mariadb() -> Iterator[MariaDb]:
    """Make a server in a directory of its own under /tmp, and run it for as long as the block."""
    home = Path(tempfile.mkdtemp(prefix="harmattan-mariadb-", dir="/tmp"))
    as_mysql = ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups"]
    if os.geteuid() == 0:
        shutil.chown(home, "mysql", "mysql")
    else:
        as_mysql = []
    subprocess.run(
        [*as_mysql, "mariadb-install-db", "--no-defaults", f"--datadir={home}/data",
         "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True, capture_output=True, cwd=home,
    )  # fmt: skip
    found = MariaDb(free_port(), home / "socket", secrets.token_urlsafe(12))
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(
            [*as_mysql, "/usr/sbin/mariadbd", "--no-defaults", f"--datadir={home}/data",
             f"--socket={found.socket}", f"--port={found.port}", "--bind-address=127.0.0.1",
             "--skip-name-resolve", f"--pid-file={home}/pid", "--innodb-flush-log-at-trx-commit=0"],
            stdout=log, stderr=log, cwd=home,
        )  # fmt: skip
    try:
        for _ in range(300):
            if server.poll() is not None:
                pytest.fail(f"MariaDB ended with {server.returncode}; its data is in {home}")
            if "ready for connections" in (home / "log").read_text(errors="replace"):
                break
            time.sleep(0.1)
        found.execute(
            f"CREATE DATABASE {found.database} CHARACTER SET utf8mb4",
            f"CREATE USER {found.login}@'127.0.0.1' IDENTIFIED BY '{found.password}'",
            f"GRANT SELECT ON {found.database}.* TO {found.login}@'127.0.0.1'",
        )
        yield found
    finally:
        server.kill()  # the data is thrown away
        server.wait(30)
        shutil.rmtree(home, ignore_errors=True)
