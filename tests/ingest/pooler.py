"""A real PgBouncer in front of a server, as schools have them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg

from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Pooler:
    """A pooler on 127.0.0.1, and what it says."""

    port: int
    log: Path

    def uri(self, direct: str) -> str:
        """Return ``direct``, a URI of the server behind it, by way of the pooler."""
        parts = urlsplit(direct)
        return parts._replace(
            netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.port}"
        ).geturl()


@contextmanager
def pooler(direct: str, mode: str, size: int = 8) -> Iterator[Pooler]:
    """Pool ``size`` sessions of the role of ``direct``, a URI, and log all that it is asked."""
    parts = urlsplit(direct)
    home = Path(tempfile.mkdtemp(prefix="harmattan-pooler-", dir="/tmp"))
    found = Pooler(free_port(), home / "log")
    (home / "users").write_text(f'"{parts.username}" "{parts.password}"\n')
    (home / "ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={parts.port}\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {found.port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {home}/users\npool_mode = {mode}\n"
        f"logfile = {found.log}\nverbose = 2\ndefault_pool_size = {size}\n"
    )
    as_other = []
    if os.geteuid() == 0:  # which it refuses to run as
        as_other = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        for path in (home, *home.iterdir()):
            shutil.chown(path, "postgres", "postgres")
    running = subprocess.Popen(
        [*as_other, "pgbouncer", "--quiet", home / "ini"], cwd=home, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(100):
            try:
                psycopg.connect(found.uri(direct), connect_timeout=1).close()
                break
            except psycopg.OperationalError:
                assert running.poll() is None, found.log.read_text()
        yield found
    finally:
        running.terminate()
        running.wait(10)
        shutil.rmtree(home)
