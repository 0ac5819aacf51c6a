"""From a push to what runs: our DAG processor beside Airflow's own, over 500 files."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from bench.figures import Figure, Section, Target
from bench.gate import FILES, lay_files
from bench.race import console, load_now
from frame.failure import Failure
from scripts.repository import HOME, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.clusters import Cluster

ALLOWED = 30.0  # seconds, on two processors
TIMEOUT = 900.0  # seconds for all files
_EVERY = 0.25  # seconds between two looks
_ABOUT = (
    f"{FILES} DAG files with a hook, two tasks and a shared module each. A commit changes the"
    " module alone; the clock stops when Airflow's database has every DAG of that commit with its"
    " new tag."
    " Beside our DAG processor, whose parses are forks of a warm process as other users, Airflow's"
    " own with the same settings, except that it looks at files again at once: by itself it would"
    " wait for `min_file_process_interval`."
)
_PUSHES = ("Accra", "Tamale", "Kumasi", "Ho", "Wa")  # what the module says in turn
_AIRFLOW = {"AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "0"}
_USER = 50000


@dataclass(frozen=True)
class _Place:
    """A folder with the mirror, the metadata database, and the environment of both contenders."""

    home: Path
    uri: str
    environment: dict[str, str]

    def git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "-c", "user.name=Ama", "-c", "user.email=ama@school.example", *words],
            cwd=self.home / "work", env=self.environment, capture_output=True, text=True,
            check=True, timeout=60,
        )  # fmt: skip
        return done.stdout.strip()

    def push(self, school: str) -> str:
        """Let ``live`` move to a commit whose module says ``school``; return it."""
        (self.home / "work/include/names.py").write_text(f'SCHOOL = "{school}"\n')
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", school)
        self.git("push", "--quiet", str(self.home / "mirror.git"), "live")
        return self.git("rev-parse", "HEAD")

    def wait(self, school: str, commit: str) -> None:
        """Wait until every DAG is of ``commit`` and has its tag. Raises Failure."""
        deadline = time.monotonic() + TIMEOUT
        query = (
            "SELECT count(*) FROM dag JOIN dag_tag USING (dag_id)"
            " WHERE NOT is_stale AND bundle_version = %s AND name = %s"
        )
        with psycopg.connect(self.uri, autocommit=True) as connection:
            while connection.execute(query, (commit, school)).fetchone() != (FILES,):
                if time.monotonic() > deadline:
                    raise Failure(
                        f"{FILES} DAGs were not there after {TIMEOUT:.0f} s",
                        f"Read the logs in {HOME / 'bench' / 'logs'}.",
                    )
                time.sleep(_EVERY)


def measure_live(rounds: int, home: Path, server: Cluster) -> Section:
    """Push ``rounds`` commits to each of the two processors. Raises Failure."""
    if os.geteuid() != 0:
        raise Failure("parses run as other users, which takes root", "Run this as root.")
    load = load_now()
    ours = Figure("live", f"our DAG processor, {FILES} files", FILES)
    airflow = Figure("airflow", f"Airflow's own, {FILES} files", FILES)
    contenders: tuple[tuple[Figure, list[str], dict[str, str]], ...] = (
        (ours, ["harmattan.dag_processor"], {}),
        (airflow, ["airflow", "dag-processor"], _AIRFLOW),
    )
    for figure, module, environment in contenders:
        place = _lay(home / figure.name, server, figure.name)
        commit = place.push("Cape Coast")
        with _running(place, figure.name, module, environment):
            place.wait("Cape Coast", commit)
            for school in _PUSHES[:rounds]:
                commit = place.push(school)
                began = time.monotonic()
                place.wait(school, commit)
                figure.seconds.append(round(time.monotonic() - began, 1))
                console.print(f"  {figure.title}: {figure.seconds[-1]} s")
    target = Target(f"seconds from a push to {FILES} files", ALLOWED, ours.best, at_most=True)
    return Section(
        "live", "What is live is what runs", _ABOUT, [ours, airflow], [target], load,
        subject="live", servers="with its default settings, and the processor",
    )  # fmt: skip


def _lay(home: Path, server: Cluster, name: str) -> _Place:
    """Make the repository, the mirror and the metadata database."""
    server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    uri = server.of(name).uri()
    for folder in ("airflow", "work", "tmp"):
        (home / folder).mkdir(parents=True)
    for each in (home, home / "airflow", home / "tmp"):
        each.chmod(0o777)
    (home / "gitconfig").write_text("[safe]\n  directory = *\n")
    python = next(path for path in sys.path if path.endswith("site-packages"))
    bundle = (
        '[{"name": "analysts", "classpath": "airflow.providers.git.bundles.git.GitDagBundle",'
        f' "kwargs": {{"repo_url": "{home}/mirror.git", "tracking_ref": "live",'
        ' "refresh_interval": 5}}]'
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "LOGNAME": "airflow",  # the image has the user
        "GIT_CONFIG_GLOBAL": str(home / "gitconfig"),
        "PYTHONPATH": os.pathsep.join([f"{ROOT}/airflow", str(ROOT), python]),
        "AIRFLOW_HOME": str(home / "airflow"),
        "AIRFLOW_CONFIG": f"{ROOT}/airflow/config/airflow.cfg",
        "AIRFLOW__CORE__FERNET_KEY": secrets.token_urlsafe(32) + "=",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": uri.replace("postgresql:", "postgresql+psycopg2:"),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": bundle,
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "airflow/bundles"),
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "airflow/logs"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(home / "airflow/parses"),
    }
    place = _Place(home, uri, environment)
    lay_files(home / "work")
    mirror = str(home / "mirror.git")
    place.git("init", "--quiet", "--initial-branch=live", ".")
    place.git("init", "--quiet", "--bare", mirror)
    subprocess.run(
        [_python(), "-W", "ignore", "-m", "airflow", "db", "migrate"],
        env=environment, check=True, capture_output=True, timeout=300,
    )  # fmt: skip
    return place


def _python() -> str:
    # This interpreter may stand where only root gets to; Debian's is for everyone.
    found = shutil.which("python3", path="/usr/bin")
    if found is None:
        raise Failure("there is no /usr/bin/python3", "apt-get install python3")
    return found


@contextmanager
def _running(
    place: _Place, name: str, module: list[str], environment: dict[str, str]
) -> Iterator[None]:
    """Run a processor as its job does, apart from all other processes."""
    command = [
        "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--",
        "setpriv", f"--reuid={_USER}", f"--regid={_USER}",
        "--clear-groups", "--inh-caps=-all,+setuid,+setgid,+kill",
        "--ambient-caps=-all,+setuid,+setgid,+kill", "--",
        _python(), "-m", *module, "--bundle-name", "analysts",
    ]  # fmt: skip
    log = HOME / "bench" / "logs" / f"live-{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    for each in (place.home / "airflow").rglob("*"):
        each.chmod(0o777)
    with log.open("w") as output:
        process = subprocess.Popen(
            command, env=place.environment | environment, cwd=place.home, stdout=output,
            stderr=output,
        )  # fmt: skip
        try:
            yield
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(30)
