"""A restore from B2 on loopback, beside pg_restore and ANALYZE from a plain file, ready to load."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from psycopg import sql

from backup.proof.report import PROMISE_SECONDS
from bench import backups, data
from bench.clusters import DATABASE
from bench.figures import Section, Target, find, ratio
from bench.measure import run
from bench.race import Contender, load_now, race
from frame.failure import Failure
from frame.progress import step

if TYPE_CHECKING:
    from bench.race import Setting

_WANTED = 0.9
_JOBS = 2
_INTO = "restored"
_ABOUT = (
    "The same database, {contents}, brought back into an empty one: downloaded, checked, decrypted,"
    f" unpacked, loaded by {_JOBS} jobs and analysed, beside loading and ANALYZE alone; the rows of"
    " lineitem compared by a digest. Servers and sessions have PostgreSQL's default settings,"
    " maintenance_work_mem of 64 MB and durability among them. What either reads is on disk and not"
    " in memory, as it is when a restore is needed. What fits in 30 minutes is said of such data:"
    " other indexes, GIN above all, take longer, and a drill says it of each database."
)


def measure(setting: Setting) -> Section:
    """Race ``backup restore`` against pg_restore."""
    backups.fill(setting)
    source, target = setting.clusters.source, setting.clusters.warehouse
    about = _ABOUT.format(contents=backups.contents(source))
    size, wanted = backups.size(source), data.digest(source, "public", "lineitem")
    plain = setting.home / "plain.dump"
    uri = target.uri().rpartition("/")[0] + f"/{_INTO}"

    def check() -> dict[str, Any]:
        found = data.digest(target.of(_INTO), "public", "lineitem")
        if found != wanted:
            raise Failure(f"lineitem: {wanted} expected, {found} found", "Report this.")
        return {}

    with backups.house(setting) as house:

        def prepare() -> None:
            target.execute(
                sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(_INTO)),
                sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(_INTO)),
            )
            house.cool(plain)

        environment = house.environments["counts"] | {"BACKUP_TARGET_URI": uri}
        connection = ["-h", "127.0.0.1", "-U", "postgres"]
        everywhere = {**setting.clusters.environment, **environment}
        with step("make a backup and a plain dump"):
            for command in (
                backups.command("run", backups.NAME),
                [f"{backups.PG_BIN}/pg_dump", "-Fc", "-Z0", *connection, "-p", str(source.port),
                 f"--file={plain}", DATABASE],
            ):  # fmt: skip
                run(
                    [command], environment=everywhere, log=setting.logs / "restore-first.log",
                    timeout=3600,
                )  # fmt: skip
        into = [*connection, "-p", str(target.port)]
        by_hand = [
            f"{backups.PG_BIN}/pg_restore", f"--jobs={_JOBS}", "--no-owner", "--no-privileges",
            "--exit-on-error", *into, f"--dbname={_INTO}", str(plain),
        ]  # fmt: skip
        analyse = [
            f"{backups.PG_BIN}/vacuumdb", "--analyze-only", f"--jobs={_JOBS}", "--quiet", *into,
            _INTO,
        ]  # fmt: skip
        load = load_now()
        figures = race(
            [
                Contender(
                    name="backup",
                    title="backup restore, from B2",
                    rows=size,
                    pipe=lambda: [
                        backups.command(
                            "restore", backups.NAME, "--into-env", "BACKUP_TARGET_URI",
                            "--jobs", str(_JOBS), "--owners", "skip",
                        )
                    ],
                    prepare=prepare,
                    check=check,
                    environment=environment,
                ),
                Contender(
                    name="pg_restore",
                    title=f"pg_restore -j {_JOBS}, from a plain local file, and ANALYZE",
                    rows=size,
                    pipe=lambda: [
                        ["sh", "-c", f"{shlex.join(by_hand)} && exec {shlex.join(analyse)}"]
                    ],
                    prepare=prepare,
                    check=check,
                ),
                Contender(
                    name="pg_restore-alone",
                    title=f"pg_restore -j {_JOBS} alone, without ANALYZE",
                    rows=size,
                    pipe=lambda: [by_hand],
                    prepare=prepare,
                    check=check,
                ),
            ],
            setting,
        )  # fmt: skip
    ours = find(figures, "backup")
    if ours.rate:
        ours.detail["gigabytes_in_30_minutes"] = round(ours.rate * PROMISE_SECONDS / 1e9)
        ours.title += f"; {ours.detail['gigabytes_in_30_minutes']} GB of it fit in 30 minutes"
    target_ratio = ratio(ours, find(figures, "pg_restore"))
    return Section(
        "restore", "Restore", about, figures,
        [Target("restore: speed over pg_restore's and ANALYZE's, from a plain file", _WANTED,
                target_ratio)],
        load, subject="backup", counted="bytes",
    )  # fmt: skip
