from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from backup.dump import run_backup
from backup.kinds import database as kind
from backup.kinds.origin import Proof
from backup.pipeline import Stage
from backup.postgres.connection import PostgresUri
from backup.proof.drill import result
from backup.restoration import comparison
from tests.backup.conftest import SERVER, House, OpenPgpKey, database_entry, publish
from tests.conftest import PG_BIN


def test_a_drill_proves_a_backup_and_keeps_its_report(house: House, drill_key: OpenPgpKey) -> None:
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute("CREATE ROLE drilled_reader")
        connection.execute("GRANT SELECT ON people TO drilled_reader")
        connection.execute("CREATE POLICY mine ON empty TO drilled_reader USING (true)")
        run_backup(house.settings, house.database)
        connection.execute("DROP OWNED BY drilled_reader")
        connection.execute("DROP ROLE drilled_reader")
    house.use_key("listFiles", "readFiles", "writeFiles")
    house.secret("drill_key.asc", drill_key.private)
    ended = house.run("drill", "hr", "--json", unprivileged=True)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    (result,) = report["databases"]
    assert (result["database"], result["verdict"]) == ("hr", "equal")
    assert (result["tables_compared"], result["rows_compared"]) == (5, 699)
    assert result["restore_seconds"] > 0
    assert abs(sum(result["steps"].values()) - result["restore_seconds"]) < 0.01
    assert all(seconds > 0 for seconds in result["steps"].values())
    assert result["bytes_in_time"] > result["source_bytes"]
    assert {"kind", "schema_name", "name", "seconds"} == {*result["slow_objects"][0]}
    assert result["backup_age_seconds"] > 0
    kept = [name for name in house.names() if name.startswith("local/drills/")]
    assert [name.rpartition(".")[2] for name in kept] == ["html", "json", "asc"]
    left = {path.name for path in house.settings.scratch.iterdir()}
    assert left == {"databases.toml", "secrets"}


def test_a_database_that_fails_does_not_stop_the_others(backed_up: House) -> None:
    settings = backed_up.settings
    settings.registry.write_text(SERVER + database_entry("absent") + database_entry("hr"))
    ended = backed_up.run("drill", "absent", "hr", "--json", unprivileged=True)
    assert ended.returncode == 1
    absent, hr = json.loads(ended.stdout)["databases"]
    assert (absent["verdict"], hr["verdict"]) == ("failed", "equal")
    assert "no backup at all of absent" in absent["findings"][0]
    assert not [name for name in backed_up.names() if "drills" in name], "the key may only read"


def test_a_dump_without_its_rows_is_found_and_told_by_a_key_for_results(
    house: House, drill_key: OpenPgpKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = kind.dump_stage

    def schema_only(*arguments: Any) -> Stage:
        stage = honest(*arguments)
        return Stage([*stage.argv, "--exclude-table-data=people"], stage.environment)

    monkeypatch.setattr(kind, "dump_stage", schema_only)
    run_backup(house.settings, house.database)
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    key = house.endpoint.create_key(
        "results", ["listBuckets", "writeFiles"], house.bucket, "local/drills/"
    )
    house.secret("b2_results.json", json.dumps({"key_id": key.key_id, "key": key.key}))
    ended = house.run("drill", "hr", unprivileged=True)
    assert ended.returncode == 1
    assert [name for name in house.names() if name.startswith("local/drills/")]
    assert "different" in ended.stdout
    assert "500 expected" in ended.stdout


def test_what_is_not_as_it_was_is_told_one_by_one(house: House, drill_key: OpenPgpKey) -> None:
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute("CREATE SEQUENCE tickets; SELECT nextval('tickets')")
        connection.execute("ALTER TABLE empty ADD CONSTRAINT odd CHECK (id > 0) NOT VALID")
        connection.execute("CREATE INDEX ON people USING gin (about)")
    manifest = run_backup(house.settings, house.database)
    assert manifest.unvalidated == ("odd on public.empty",)
    (sequence,) = manifest.sequences
    tables = [
        table.model_copy(update={"digest": "7"}) if table.table == "people" else table
        for table in manifest.tables
    ]
    forged = manifest.model_copy(
        update={
            "tables": tuple(tables),
            "sequences": (sequence.model_copy(update={"before": 5, "after": 6}),),
            "unvalidated": (),
        }
    )
    publish(house, forged)
    house.read()
    house.secret("drill_key.asc", drill_key.private)
    ended = house.run("drill", "hr", "--json", unprivileged=True)
    (result,) = json.loads(ended.stdout)["databases"]
    assert (ended.returncode, result["verdict"]) == (1, "different")
    assert result["findings"] == [
        "public.people has 500 rows as expected, but not the same",
        "sequence public.tickets is at 1, 5 to 6 expected",
        "constraint odd on public.empty is not valid",
    ]


def test_an_index_that_postgresql_would_not_use_is_told(house: House) -> None:
    manifest = run_backup(house.settings, house.database)
    restored = PostgresUri(house.source, "test")
    assert comparison.compare(manifest, restored, 2, PG_BIN) == []
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute("CREATE TABLE twice AS SELECT 1 AS id FROM generate_series(1, 2)")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY twice_id ON twice (id)")
    assert comparison.compare(manifest, restored, 2, PG_BIN) == [
        "public.twice has 2 rows and is not in the manifest",
        "index public.twice_id is not valid",
        "table public.twice is not in the manifest",
    ]


def test_an_index_that_is_out_of_order_is_found_by_amcheck(house: House) -> None:
    restored = PostgresUri(house.source, "test")
    assert comparison.damage(PG_BIN, restored, 2) == []
    compare = (
        "CREATE OR REPLACE FUNCTION compare(int, int) RETURNS int IMMUTABLE LANGUAGE sql"
        " AS 'SELECT CASE WHEN $1 = $2 THEN 0 WHEN $1 {} $2 THEN 1 ELSE -1 END'"
    )
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute(compare.format(">").encode())
        connection.execute(
            "CREATE OPERATOR CLASS fickle FOR TYPE int USING btree AS OPERATOR 1 <, OPERATOR 2 <=,"
            " OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 compare(int, int)"
        )
        connection.execute("CREATE TABLE numbers AS SELECT generate_series(1, 100) AS n")
        connection.execute("CREATE INDEX in_order ON numbers (n fickle)")
        connection.execute(compare.format("<").encode())
    found = " ".join(comparison.damage(PG_BIN, restored, 2))
    assert "in_order" in found
    assert "item order invariant violated" in found


@pytest.mark.parametrize(("seconds", "verdict"), [(1800.0, "equal"), (1801.0, "different")])
def test_a_restore_that_breaks_the_promise_is_not_equal(
    house: House, seconds: float, verdict: str
) -> None:
    manifest = run_backup(house.settings, house.database)
    found = result(manifest, 3600, Proof(seconds, 10, ()))
    assert found.verdict == verdict
    broken = ("restore took 1801 s, 1800 are promised",)
    assert found.findings == (broken if verdict == "different" else ())


def test_a_drill_without_a_scratch_server_is_told_how_to_start_one(backed_up: House) -> None:
    ended = backed_up.run("drill", "hr", BACKUP_SCRATCH_SERVER="")
    assert ended.returncode == 2
    assert "BACKUP_SCRATCH_SERVER is not set" in ended.stderr
    assert "`backup scratch-server DIRECTORY`" in ended.stderr
