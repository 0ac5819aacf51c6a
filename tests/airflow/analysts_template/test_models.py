"""The school's models: built as the platform builds them, held against plain SQL on the sources."""

from __future__ import annotations

import json
import secrets
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg import sql

from ingest import contract, run
from ingest.connections import Entry
from ingest.job import Job
from scripts import environments
from standins.school.load import DATABASES, load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import PostgresServer

pytestmark = pytest.mark.programs

TEMPLATE = Path(__file__).parents[3] / "airflow" / "analysts-template"
MARTS = sorted(path.stem for path in (TEMPLATE / "models/marts").glob("*/*.sql"))
SCHEMA = "marts_build"
SCALE, SEED = 0.02, 7
RIGHTS = """
    CREATE SCHEMA {schema} AUTHORIZATION {role};
    GRANT USAGE ON SCHEMA raw_records, raw_hr, raw_service_desk, ops TO {role};
    GRANT SELECT ON ALL TABLES IN SCHEMA raw_records, raw_hr, raw_service_desk, ops TO {role};
"""

# One department of two people who were paid in October, one of five, and one of all others.
DEPARTMENTS = """
    UPDATE employees SET department_id = 3;
    WITH paid AS (SELECT employee_id, row_number() OVER (ORDER BY employee_id) AS place
                  FROM payroll WHERE month = '2026-10-01')
    UPDATE employees SET department_id = CASE WHEN place <= 2 THEN 1 ELSE 2 END
    FROM paid WHERE id = employee_id AND place <= 7;
"""


@dataclass
class Models:
    """A warehouse with the school in it, and the role that builds there and has no other right."""

    server: PostgresServer
    warehouse: str  # URIs of the superuser
    sources: dict[str, str]
    role: str
    password: str
    home: Path
    said: str = ""  # by the build of the fixture

    @property
    def name(self) -> str:
        return self.warehouse.rpartition("/")[2]

    def dbt(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run dbt with nothing else in its environment."""
        return subprocess.run(
            [environments.ensure("dbt") / "bin/dbt", "--no-use-colors", *words],
            cwd=TEMPLATE,
            env={
                "PATH": "/usr/bin:/bin",
                "HOME": str(self.home),
                "DBT_TARGET_PATH": str(self.home / "target"),
                "DBT_LOG_PATH": str(self.home / "logs"),
                "MODELS_HOST": "127.0.0.1",
                "MODELS_PORT": str(self.server.port),
                "MODELS_USER": self.role,
                "DBT_ENV_SECRET_MODELS_PASSWORD": self.password,
                "MODELS_DATABASE": self.name,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def rows(self, query: str, source: str = "") -> list[tuple[Any, ...]]:
        """Return what ``query`` finds in the warehouse or in a source."""
        with psycopg.connect(self.sources[source] if source else self.warehouse) as connection:
            connection.execute("SET TimeZone TO 'UTC'")
            connection.execute(f"SET search_path TO {'public' if source else SCHEMA}")
            return connection.execute(query.encode()).fetchall()

    @contextmanager
    def another(self, statements: str, *, empty: bool = False) -> Iterator[None]:
        """Put a changed copy of the warehouse, or an empty one, into its place for a while.

        dbt reads the whole project again whenever the database has another name.
        """
        here, aside = sql.Identifier(self.name), sql.Identifier(f"{self.name}_aside")
        with psycopg.connect(self.server.uri(), autocommit=True) as connection:
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(here, aside))
            template = sql.Identifier("template0") if empty else aside
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(here, template))
            with psycopg.connect(self.warehouse) as copy:
                copy.execute(statements.encode())
            yield
            connection.execute(sql.SQL("DROP DATABASE {}").format(here))
            connection.execute(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(aside, here))


@pytest.fixture(scope="module")
def models(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Models:
    warehouse = postgres.create_database()
    sources = {name: postgres.create_database() for name in DATABASES}
    for name, uri in sources.items():
        with psycopg.connect(uri) as connection:
            load(connection, name, SCALE, SEED)
            if name == "hr":
                connection.execute(DEPARTMENTS)
        pipeline = contract.read(TEMPLATE / f"pipelines/{name}.yaml")

        def resolve(which: str, uri: str = uri) -> Entry:
            return Entry(which, "postgresql", warehouse if which == "warehouse" else uri)

        run.run(Job(pipeline, name, "test", resolve))
    role, password = f"models_{secrets.token_hex(4)}", secrets.token_urlsafe(12)
    with psycopg.connect(warehouse) as connection:
        names = {"role": sql.Identifier(role), "schema": sql.Identifier(SCHEMA)}
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        connection.execute(create.format(names["role"], sql.Literal(password)))
        connection.execute(sql.SQL(RIGHTS).format(**names))  # type: ignore[arg-type]
    home = tmp_path_factory.mktemp("dbt")
    built = Models(postgres, warehouse, sources, role, password, home)
    done = built.dbt("build")
    assert done.returncode == 0, done.stdout + done.stderr
    built.said = done.stdout
    return built


def nodes(models: Models) -> dict[str, dict[str, Any]]:
    """Return what dbt knows of each mart, by its name."""
    manifest = json.loads((models.home / "target/manifest.json").read_text())
    found = {node["name"]: node for node in manifest["nodes"].values()}
    return {name: found[name] for name in MARTS}


def test_the_build_passes_without_a_warning_and_leaves_the_marts_alone(models: Models) -> None:
    assert "WARN=0 ERROR=0 SKIP=0" in models.said
    tables = models.rows(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'marts_build'::regnamespace"
        " AND relkind IN ('r', 'v', 'm') ORDER BY 1"
    )
    assert [name for (name,) in tables] == MARTS


FIRST_ANSWERS = """
    SELECT count(DISTINCT t.id) FROM tickets t JOIN comments c ON c.ticket_id = t.id
    WHERE NOT c.internal AND c.author <> ''
      AND upper(btrim(c.author, E' \\t')) <> upper(btrim(t.requester, E' \\t'))
      AND c.created_at >= t.opened_at
"""
FIGURES = [
    ("SELECT academic_year, sum(students) FROM enrolment GROUP BY 1 ORDER BY 1", "records",
     "SELECT academic_year, count(DISTINCT student_id) FROM enrolments GROUP BY 1 ORDER BY 1"),
    ("SELECT year, sum(students) FROM new_students GROUP BY 1 ORDER BY 1", "records",
     "SELECT extract(year FROM admitted_on), count(*) FROM students GROUP BY 1 ORDER BY 1"),
    ("SELECT academic_year, course_code, scripts, passed, average_score FROM exam_results"
     " WHERE exam = 'End of year' AND scripts - absent >= 5 ORDER BY 1, 2", "records",
     "SELECT r.academic_year, trim(c.code), count(*), count(*) FILTER (WHERE score >= 50),"
     " round(avg(score), 2) FROM results r JOIN exams x ON x.id = r.exam_id"
     " JOIN courses c ON c.id = x.course_id WHERE x.kind = 'end_of_year'"
     " GROUP BY 1, 2 HAVING count(score) >= 5 ORDER BY 1, 2"),
    ("SELECT academic_year, cohort, sum(scripts) FROM pass_rates GROUP BY 1, 2 ORDER BY 1, 2",
     "records",
     "SELECT academic_year, extract(year FROM admitted_on), count(*)"
     " FROM results JOIN students ON id = student_id GROUP BY 1, 2 ORDER BY 1, 2"),
    ("SELECT cohort, academic_year, still_here FROM progression WHERE still_here > 0 ORDER BY 1, 2",
     "records",
     "SELECT extract(year FROM admitted_on), academic_year, count(DISTINCT s.id)"
     " FROM enrolments JOIN students s ON s.id = student_id GROUP BY 1, 2 ORDER BY 1, 2"),
    ("SELECT sum(employees) FROM staff_headcount WHERE month = '2026-10-01'", "hr",
     "SELECT count(*) FROM employees WHERE hired_on <= '2026-10-31'"
     " AND (left_on IS NULL OR left_on > '2026-10-31')"),
    ("SELECT sum(joiners), sum(leavers) FROM staff_movements", "hr",
     "SELECT count(*) FILTER (WHERE date_trunc('month', hired_on) >= min_month),"
     " count(*) FILTER (WHERE date_trunc('month', left_on) BETWEEN min_month AND max_month)"
     " FROM employees, (SELECT min(month) AS min_month, max(month) AS max_month FROM payroll) m"),
    ("SELECT year, sum(entitled_days) FROM leave_balance GROUP BY 1 ORDER BY 1", "hr",
     "SELECT year, sum(days) FROM leave_entitlements GROUP BY 1 ORDER BY 1"),
    ("SELECT sum(taken_days) FROM leave_balance WHERE year = 2025", "hr",
     "SELECT count(*) FROM leave l JOIN leave_entitlements e USING (employee_id),"
     " generate_series(starts_on, ends_on, interval '1 day') day WHERE e.year = 2025"
     " AND ends_on < '9999-01-01' AND approved AND kind = 'annual'"
     " AND extract(year FROM day) = 2025 AND to_char(day, 'Dy') NOT IN ('Sat', 'Sun')"),
    ("SELECT month, sum(gross), sum(net) FROM payroll_cost GROUP BY 1 ORDER BY 1", "hr",
     "SELECT month, sum(gross), sum(net) FROM payroll GROUP BY 1 ORDER BY 1"),
    ("SELECT priority, sum(tickets), sum(resolved) FROM tickets_by_month GROUP BY 1 ORDER BY 1",
     "service_desk",
     "SELECT priority, count(*), count(closed_at) FROM tickets GROUP BY 1 ORDER BY 1"),
    ("SELECT sum(answered) FROM tickets_by_month", "service_desk", FIRST_ANSWERS),
    ("SELECT sum(resolutions_in_time) FROM tickets_by_month", "service_desk",
     "SELECT count(*) FROM tickets JOIN service_targets USING (priority)"
     " WHERE closed_at - opened_at <= resolution"),
    ("SELECT priority, sum(tickets), min(oldest_opened_on) FROM open_tickets GROUP BY 1 ORDER BY 1",
     "service_desk",
     "SELECT priority, count(*), min(opened_at)::date FROM tickets"
     " WHERE status NOT IN ('resolved', 'closed') GROUP BY 1 ORDER BY 1"),
    ("SELECT as_of FROM data_as_of WHERE source = 'hr'", "hr",
     "SELECT max(at) FROM (SELECT max(updated_at) AS at FROM departments UNION ALL"
     " SELECT max(updated_at) FROM grades UNION ALL SELECT max(updated_at) FROM employees UNION ALL"
     " SELECT max(updated_at) FROM leave UNION ALL SELECT max(updated_at) FROM payroll UNION ALL"
     " SELECT max(updated_at) FROM leave_entitlements) newest"),
    ("SELECT rows FROM table_freshness WHERE table_name = 'raw_records.results' AND NOT late",
     "records", "SELECT count(*) FROM results"),
    ("SELECT rows_read FROM table_loads WHERE table_name = 'raw_hr.payroll'"
     " AND status = 'published'", "hr", "SELECT count(*) FROM payroll"),
    ("SELECT tables_published, checks FROM pipeline_runs WHERE source = 'service_desk'", "",
     "SELECT (SELECT count(*) FROM ops.tables WHERE pipeline = 'service_desk'),"
     " (SELECT count(*) FROM ops.checks WHERE pipeline = 'service_desk')"),
    ("SELECT count(*) FROM failed_checks", "", "SELECT count(*) FROM ops.checks WHERE NOT passed"),
]  # fmt: skip


@pytest.mark.parametrize(("mart", "source", "query"), FIGURES, ids=[text for text, *_ in FIGURES])
def test_a_figure_is_what_plain_sql_finds_in_the_source(
    models: Models, mart: str, source: str, query: str
) -> None:
    shown = models.rows(mart)
    assert shown
    assert shown == models.rows(query, source)


def test_every_mart_has_a_figure_that_is_held_against_its_source() -> None:
    assert [mart for mart in MARTS if not any(f"FROM {mart}" in text for text, *_ in FIGURES)] == []


def test_every_mart_and_each_of_its_columns_is_described_also_in_the_warehouse(
    models: Models,
) -> None:
    commented = models.rows(
        "SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a"
        " ON a.attrelid = c.oid WHERE c.relnamespace = 'marts_build'::regnamespace"
        " AND c.relkind = 'r' AND a.attnum > 0 AND obj_description(c.oid, 'pg_class') > ''"
        " AND col_description(c.oid, a.attnum) > '' ORDER BY 1, a.attnum"
    )
    columns = models.rows(
        "SELECT table_name::text, column_name::text FROM information_schema.columns"
        " WHERE table_schema = 'marts_build' ORDER BY 1, ordinal_position"
    )
    assert commented == columns
    described = [
        (name, column["name"])
        for name, node in nodes(models).items()
        for column in node["columns"].values()
        if len(column["description"]) > 10 and len(node["description"]) > 40
    ]
    assert described == columns


PERSONAL = {
    "records": [
        "given_name", "family_name", "full_name", "native_name", "email", "index_number",
        "guardian", "birth_date", "remark",
    ],
    "hr": [
        "given_name", "family_name", "full_name", "native_name", "email", "phone", "staff_number",
        "qualifications", "birth_date", "monthly_salary", "reason",
    ],
    "service_desk": ["requester", "subject", "body", "author", "tag", "address", "mac"],
}  # fmt: skip


def test_no_column_of_a_mart_is_called_like_one_that_is_personal(models: Models) -> None:
    personal = {name for names in PERSONAL.values() for name in names}
    personal |= {"id", "name", "student_id", "employee_id", "ticket_id", "asset_id", "manager_id"}
    for name, node in nodes(models).items():
        assert not personal & node["columns"].keys(), name


def test_no_value_of_a_mart_is_that_of_a_person(models: Models) -> None:
    personal: set[str] = set()
    for source, names in PERSONAL.items():
        for table, column in models.rows(
            "SELECT table_name::text, column_name::text FROM information_schema.columns"
            f" WHERE table_schema = 'public' AND column_name = ANY (ARRAY{names}::text[])",
            source,
        ):
            found = models.rows(f'SELECT DISTINCT trim("{column}"::text) FROM "{table}"', source)
            personal |= {value.casefold() for (value,) in found if value}
    assert len(personal) > 200
    for name, node in nodes(models).items():
        texts = [c["name"] for c in node["columns"].values() if c["data_type"] == "text"]
        for column in texts:
            values = models.rows(f'SELECT DISTINCT "{column}" FROM "{name}"')
            assert not personal & {str(value).casefold() for (value,) in values}, (name, column)


DAMAGED = ("enrolment", "payroll_cost", "tickets_by_month")
DAMAGE = """
    ALTER TABLE raw_records.students DROP CONSTRAINT "students~key" CASCADE;
    INSERT INTO raw_records.students SELECT * FROM raw_records.students LIMIT 1;
    UPDATE raw_hr.payroll SET gross = -gross
      WHERE (employee_id, month) = (SELECT employee_id, month FROM raw_hr.payroll LIMIT 1);
    DELETE FROM raw_service_desk.service_targets WHERE priority = 3;
    UPDATE ops.tables SET finished_at = finished_at - interval '3 days'
      WHERE "table" = 'raw_hr.leave';
"""


def test_broken_rows_fail_their_tests_and_reach_no_mart(models: Models) -> None:
    with models.another(DAMAGE):
        before = models.rows("SELECT * FROM payroll_cost ORDER BY 1, 2")
        built = models.dbt("build", "--select", *(f"+{mart}" for mart in DAMAGED))
        after = models.rows("SELECT * FROM payroll_cost ORDER BY 1, 2")
        fresh = models.dbt("source", "freshness", "--select", "source:hr")
    assert built.returncode == 1
    failed = [line for line in built.stdout.splitlines() if " FAIL " in line]
    assert {test for line in failed for test in line.split() if "_" in test} == {
        "source_key_records_students_id",
        "source_at_least_hr_payroll_gross__net__0",
        "source_relationships_service_desk_tickets_priority__priority__source_service_desk_service_targets_",
    }, built.stdout
    for mart in DAMAGED:
        assert f"SKIP relation {SCHEMA}.{mart}" in built.stdout
    assert after == before
    assert fresh.returncode == 1
    stale = [line for line in fresh.stdout.splitlines() if "ERROR STALE" in line]
    assert len(stale) == 1
    assert "hr.leave " in stale[0]


def test_the_pay_of_a_small_department_cannot_be_worked_out(models: Models) -> None:
    shown = models.rows(
        "SELECT department = 'Other', employees FROM payroll_cost"
        " WHERE month = '2026-10-01' ORDER BY employees"
    )
    ((others,),) = models.rows("SELECT count(*) FROM payroll WHERE month = '2026-10-01'", "hr")
    assert others > 7 + 7
    assert shown == [(True, 7), (False, others - 7)]


def test_a_warehouse_without_loads_ends_with_what_is_missing(models: Models) -> None:
    with models.another(f"CREATE SCHEMA {SCHEMA}", empty=True):
        built = models.dbt("build")
        tables = models.rows(f"SELECT FROM pg_tables WHERE schemaname = '{SCHEMA}'")
    assert built.returncode != 0
    assert "ops.checks, ops.runs, ops.tables, raw_hr.departments" in built.stdout
    assert "HINT: Run the DAGs ingest_records" in built.stdout
    assert not tables
