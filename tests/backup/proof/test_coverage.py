"""What is covered: decisions on plain values, and the question put to real servers."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from backup.dump import run_backup
from backup.manifest import Gap, Manifest, StoredDump, TableContents
from backup.openpgp.expiry import KeyState
from backup.openpgp.signature import NotTrusted
from backup.proof.coverage import Kept, Row, judge, judge_keys
from backup.proof.report import DrillReport, DrillResult
from backup.proof.survey import Found
from backup.registry import Database, Registry, Server
from frame.failure import Failure, WrongUse
from tests.backup.conftest import SERVER, House, database_entry, make_database
from tests.backup.examples import HOUR, NOW, SOURCE, backup
from tests.http_server import http_server

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Literal

    from backup.bucket.catalogue import Backup


def server(name: str = "postgres", *without: str) -> Server:
    return Server(
        name=name, vault_path=f"backup/servers/{name}", schedule="0 0 * * *", without=without
    )


def database(name: str, **fields: str) -> Database:
    return Database.model_validate(make_database(name).model_dump() | fields)


def drill(
    name: str, age: timedelta = 24 * HOUR, verdict: Literal["equal", "different"] = "equal"
) -> DrillReport:
    result = DrillResult(database=name, verdict=verdict)
    return DrillReport(started=NOW - age, finished=NOW - age, databases=(result,))


REGISTRY = Registry(server=(server("postgres", "postgres"),), database=(database("hr"),))
GLOBALS = "postgres_globals"


RECOVERY = "0A" * 20


def manifest(identity: int | None = 1, started: datetime = NOW - 99 * 24 * HOUR) -> Manifest:
    return Manifest(
        id="x", database="hr", started=started, finished=started, recipients=(RECOVERY,),
        program_version="0",
        dump=StoredDump(name="x", file_id="x", size=1, sha256="0" * 64),
        source=SOURCE.model_copy(update={"system_identifier": identity}),
    )  # fmt: skip


def of_size(size: int) -> Manifest:
    """Return the manifest of a dump of ``size`` bytes."""
    dump = manifest().dump.model_copy(update={"size": size})
    return manifest().model_copy(update={"dump": dump})


def after(*nights: int | Failure, size: int = 500) -> Kept:
    """Return what is there of ``size`` behind ``nights`` of these sizes, or faults."""
    earlier = [of_size(night) if isinstance(night, int) else night for night in nights]
    newest = backup("hr", size=size)
    return Kept([newest], [newest], of_size(size), earlier)


def kept(*backups: Backup, copies: tuple[Backup, ...] | None = None) -> Kept:
    """Return what is there, with a copy of the newest unless told otherwise."""
    return Kept(backups, backups[-1:] if copies is None else copies, manifest())


WELL = {"hr": kept(backup("hr")), GLOBALS: kept(backup(GLOBALS))}
DRILLS = [drill("hr"), drill(GLOBALS)]
HOLDS = {"postgres": Found(1, frozenset({"postgres", "hr"}))}


def states(**changes: object) -> dict[str, tuple[str, ...]]:
    """Return what is wrong with what, after these changes to a world where nothing is."""
    world = {"registry": REGISTRY, "servers": HOLDS, "bucket": WELL, "drills": DRILLS} | changes
    rows = judge(
        world["registry"], world["servers"], world["bucket"], world["drills"], NOW  # type: ignore[arg-type]
    )  # fmt: skip
    return {row.name: row.states for row in rows if not row.well}


def test_nothing_is_wrong_where_all_is_well() -> None:
    assert states() == {}


DAY = 24 * HOUR
FORGED = NotTrusted("manifest x is not signed by the key of hr", hint="Find out who.")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (kept(), "no backup"),
        (kept(backup("hr", 27 * HOUR)), "stale"),
        (kept(backup("hr", -HOUR)), "from the future"),
        (Kept([backup("hr")], [], FORGED), "not trusted"),
        (Kept([backup("hr")], [], manifest(2)), "of another server"),
        (Kept([backup("hr")], [], manifest(None)), None),
        (Kept([backup("hr")], [], manifest(started=NOW + 365 * 24 * HOUR)), "from the future"),
        (kept(backup("hr", 40 * DAY), backup("hr"), copies=()), "no monthly copy"),
        (kept(backup("hr", 40 * DAY), backup("hr"), copies=(backup("hr", 34 * DAY),)),
         "no monthly copy"),
        (kept(backup("hr", 40 * DAY), backup("hr"), copies=(backup("hr", 32 * DAY),)), None),
        (kept(backup("hr", 20 * DAY, stood=16), backup("hr")), None),
        (kept(backup("hr", 20 * DAY, stood=14.9), backup("hr")), "hidden early"),
        (kept(backup("hr", stood=0.01)), "hidden early"),
        (kept(backup("hr"), copies=(backup("hr", folder="monthly", stood=16),)), "hidden early"),
        (kept(backup("hr"), copies=(backup("hr", folder="monthly", stood=367),)), None),
        (kept(backup("hr", 1.5 * DAY), backup("hr"), copies=()), None),
        (after(1000, 1000, 1000, size=499), "shrunk"),
        (after(1000, 1000, FORGED), "not trusted"),
        (after(1000, 1000, Failure("no answer of B2", hint="Wait.")), None),
    ],
)  # fmt: skip
def test_what_is_wrong_with_backups_is_told(found: Kept, expected: str | None) -> None:
    assert states(bucket=WELL | {"hr": found}) == ({"hr": (expected,)} if expected else {})


def holding(rows: int, why: str | None = None, *gaps: Gap) -> Manifest:
    table = TableContents(schema_name="public", table="notes", rows=rows, unproved=why)
    return manifest().model_copy(update={"tables": (table,), "gaps": gaps, "warnings": ("oh",)})


def judged(kept: Kept, *accepted: str) -> Row:
    """Return what becomes of ``hr`` whose databases.toml accepts these names."""
    registry = Registry(
        server=REGISTRY.server, database=(database("hr").model_copy(update={"accepted": accepted}),)
    )
    return next(
        row for row in judge(registry, HOLDS, WELL | {"hr": kept}, DRILLS, NOW) if row.name == "hr"
    )


def test_what_is_not_proved_or_not_held_is_told_and_nothing_is_wrong() -> None:
    newest = holding(1, "out of memory", Gap(kind="subscription", name="sub1", why="left out"))
    row = judged(Kept([backup("hr")], [], newest))
    assert (row.well, row.warnings) == (True, ("oh",))
    assert [notice.name for notice in row.notices] == ["public.notes", "subscription:sub1"]
    row = judged(Kept([backup("hr")], [], newest), "public.notes", "subscription:sub1")
    assert (row.well, row.notices) == (True, ())


def test_a_table_that_lost_its_rows_is_red_until_it_is_accepted() -> None:
    kept = Kept([backup("hr")], [], holding(0), [holding(9)])
    row = judged(kept)
    assert row.states == ("rows lost",)
    assert row.detail == "rows:public.notes: has no rows, it had 9"
    assert judged(kept, "rows:public.notes").states == ()


@pytest.mark.parametrize("sizes", [(), (9000, 9000), (1000, 9000, 1000)])
def test_a_size_is_held_against_enough_of_a_history_only(sizes: tuple[int, ...]) -> None:
    assert states(bucket=WELL | {"hr": after(*sizes)}) == {}


@pytest.mark.parametrize(
    ("drills", "expected"),
    [
        ([], ("never drilled",)),
        ([drill("hr", timedelta(days=35))], ("drill overdue",)),
        ([drill("hr", 30 * HOUR), drill("hr", verdict="different")], ("drill failed",)),
        ([drill("hr", 30 * HOUR, "different"), drill("hr")], None),
        ([drill("hr", verdict="different"), drill("hr", -24 * HOUR)], ("drill failed",)),
        (
            [drill("hr", verdict="different"), drill("hr").model_copy(update={"at": NOW})],
            ("drill failed",),
        ),
    ],
)
def test_what_is_wrong_with_drills_is_told(
    drills: list[DrillReport], expected: tuple[str, ...] | None
) -> None:
    assert states(drills=[drill(GLOBALS), *drills]) == ({"hr": expected} if expected else {})


def test_a_backup_that_recovery_could_not_open_is_told() -> None:
    for pinned, expected in ((RECOVERY, {}), ("0B" * 20, {"recovery key missing"})):
        registry = REGISTRY.model_copy(update={"recovery_key": pinned})
        found = states(registry=registry)
        assert {state for of in found.values() for state in of} == set(expected)


def test_a_database_that_nobody_registered_is_uncovered() -> None:
    found = {"postgres": Found(1, frozenset({"postgres", "hr", "payroll"}))}
    assert states(servers=found) == {"payroll": ("uncovered",)}


def test_a_database_is_known_by_what_its_server_calls_it() -> None:
    renamed = Registry(server=REGISTRY.server, database=(database("hr", dbname="HR-Prod"),))
    found = {"postgres": Found(1, frozenset({"HR-Prod", "postgres"}))}
    assert states(registry=renamed, servers=found) == {}
    assert states(registry=renamed)["hr"] == ("not on its server",)


def test_one_server_by_two_names_is_one() -> None:
    registry = Registry(
        server=(server("a", "postgres"), server("b")),
        database=(database("hr", server="a"), database("records", server="b")),
    )
    names = ("hr", "records", "a_globals", "b_globals")
    # b was a replica of a, and went its own way.
    same = Found(1, frozenset({"postgres", "hr", "records"}))
    b = Found(1, same.databases | {"payroll"})
    world = {
        "registry": registry,
        "bucket": {name: Kept([backup(name)], [], manifest(None)) for name in names},
        "drills": [drill(name) for name in names],
    }
    assert states(servers={"a": same, "b": b}, **world) == {"payroll": ("uncovered",)}
    other = Found(2, same.databases)
    apart = states(servers={"a": same, "b": other}, **world)
    assert apart["hr"] == ("uncovered",), "as b has one of that name"


def test_a_server_that_does_not_answer_hides_nothing_else() -> None:
    away = {"postgres": Failure("no route", hint="Wait.")}
    assert states(servers=away, bucket=WELL | {"hr": kept()}) == {
        "postgres": ("server does not answer",),
        "hr": ("no backup",),
    }


def test_a_backup_under_the_name_of_another_is_refused(house: House) -> None:
    wrong = house.database.model_copy(update={"name": "records", "dbname": "records"})
    with pytest.raises(WrongUse, match=r"the URI of records names .*, not 'records'"):
        run_backup(house.settings, wrong)
    assert house.names() == []


def test_a_coverage_that_breaks_is_told_too(house: House) -> None:
    with http_server() as hook:
        house.secret("alerts.json", json.dumps({"webhook": f"{hook.url}/"}))
        ended = house.run("coverage")
    assert ended.returncode == 2
    (body,) = hook.posts
    assert "servers.json cannot be read" in body["findings"][0]["error"]


def test_a_key_that_will_not_serve_is_told() -> None:
    well = KeyState(use="signs hr", fingerprint="A", expires=None, state="well")
    soon = KeyState(use="encrypts", fingerprint="B", expires="2026-12-24", state="expires soon")
    (row,) = judge_keys([well, soon])
    assert (row.name, row.states) == ("key that encrypts", ("key expires soon",))
    assert "2026-12-24" in (row.detail or "")


def test_a_real_server_is_asked_and_what_is_red_goes_to_the_webhook(house: House) -> None:
    name = house.source.rpartition("/")[2]
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS observer")
        connection.execute("CREATE ROLE observer LOGIN PASSWORD 'observes'")
        others = [
            other
            for (other,) in connection.execute("SELECT datname FROM pg_database")
            if other != name
        ]
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(f"{name}_new")))
        template = sql.SQL("CREATE DATABASE {} IS_TEMPLATE true ALLOW_CONNECTIONS false")
        connection.execute(template.format(sql.Identifier(f"{name}_template")))
    server_uri = house.source.rpartition("@")[2].split("/")[0]
    uri = f"postgresql://observer:observes@{server_uri}/postgres"
    house.secret("servers.json", json.dumps({"postgres": uri}))
    text = SERVER.replace('without = ["postgres"]', f"without = {json.dumps(others)}")
    house.settings.registry.write_text(text + database_entry("hr", dbname=name))
    run_backup(house.settings, house.database)
    house.read()
    with http_server() as hook:
        alerts = {"webhook": f"{hook.url}/hook", "ping": ""}
        house.secret("alerts.json", json.dumps(alerts))
        ended = house.run("coverage", "--json")
    assert ended.returncode == 1, ended.stderr
    red = {row["name"]: row["states"] for row in json.loads(ended.stdout) if row["states"]}
    assert red == {
        f"{name}_new": ["uncovered"],
        f"{name}_template": ["uncovered"],
        "hr": ["never drilled"],
        "postgres_globals": ["no backup", "never drilled"],
        "recovery key": ["no recovery key pinned"],
        "lifecycle": ["rules not in place"],
    }
    (request,), (body,) = hook.requests, hook.posts
    assert request.path == "/hook"
    told = (body["job"], body["environment"], body["status"])
    assert told == ("backup-coverage", "local", "failed")
    assert {row["name"] for row in body["findings"]} == set(red)
    assert "observes" not in ended.stderr + ended.stdout


def test_what_a_real_backup_lacks_is_told_and_accepted(house: House) -> None:
    name = house.source.rpartition("/")[2]
    with psycopg.connect(house.source, autocommit=True) as connection:
        for statement in (
            "CREATE EXTENSION postgres_fdw",
            "CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw",
            "CREATE FOREIGN TABLE away (a int) SERVER far",
        ):
            connection.execute(statement)
        run_backup(house.settings, house.database)
        connection.execute("DELETE FROM people")
        run_backup(house.settings, house.database)
    house.secret("servers.json", json.dumps({"postgres": house.source}))
    house.read()

    def told(*accepted: str) -> tuple[list[str], list[str], str]:
        entry = database_entry("hr", dbname=name, accepted=accepted)
        house.settings.registry.write_text(SERVER + entry)
        rows = json.loads(house.run("coverage", "--json").stdout)
        (row,) = [row for row in rows if row["name"] == "hr"]
        return row["states"], [notice["name"] for notice in row["notices"]], row["detail"] or ""

    states, notices, detail = told()
    assert "rows lost" in states
    assert notices == ["foreign table:public.away"]
    assert detail == "rows:public.people: has no rows, it had 500"
    states, notices, detail = told("rows:public.people", "foreign table:*")
    assert ("rows lost" in states, notices, detail) == (False, [], "")
    shown = house.run("coverage").stdout
    assert "foreign table:public.away" not in shown
    identifier = json.loads(house.run("list", "--newest", "--json").stdout)[0]["id"]
    shown = house.run("show", identifier).stdout
    assert "not in the dump, foreign table public.away: its rows are another server's" in shown


def test_what_the_writers_key_can_do_in_secret_is_seen(house: House) -> None:
    run_backup(house.settings, house.database)
    manifest_name = next(name for name in house.names() if name.endswith(".manifest.json.gpg"))
    # A copy of this month that nobody signed would keep the job from making one.
    for suffix in (".dump.zst.gpg", ".manifest.json.gpg"):
        house.bucket.upload_bytes(b"{}", f"local/monthly/hr/20261101T000000Z-00000000{suffix}")
    house.endpoint.advance(seconds=5)
    house.bucket.hide_file(manifest_name)
    house.read()
    house.secret("servers.json", json.dumps({"postgres": house.server.uri("postgres")}))
    rows = {row["name"]: row for row in json.loads(house.run("coverage", "--json").stdout)}
    assert {"hidden early", "not trusted"} <= set(rows["hr"]["states"])
    assert "20261101T000000Z-00000000.manifest.json.gpg is not signed" in rows["hr"]["detail"]
