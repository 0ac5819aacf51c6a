"""What each role may open and do, with the real login, in a real Superset."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from dashboards.roles import ANALYSTS, BUILD, LEADERSHIP, LOOK, ROLES
from tests.dashboards.examples import Repository
from tests.dashboards.service import PEOPLE, Session

if TYPE_CHECKING:
    from tests.dashboards.service import Service

pytestmark = pytest.mark.programs

NOBODY = "nobody"
EVERYBODY = {*PEOPLE, NOBODY}
KNOWN = set(PEOPLE)
BUILDERS = {"analysts", "Admin"}
OPERATORS = {"Admin"}


@pytest.fixture(scope="module")
def sessions(superset: Service, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Everybody's browser, and the example's dashboard in Superset."""
    done = superset.run("import", Repository().write(tmp_path_factory.mktemp("repository")))
    assert done.returncode in (0, 3), done.stderr
    known: dict[str, Any] = {role: superset.login(user) for role, user in PEOPLE.items()}
    anonymous = Session.__new__(Session)
    super(Session, anonymous).__init__()
    anonymous.base = superset.url
    return {**known, NOBODY: anonymous}


# A page or an answer, and who gets it (200); all others are refused (401, 403, 404) or sent to the
# login.
ROUTES: dict[str, set[str]] = {
    "/health": EVERYBODY,
    "/login/": {NOBODY},
    "/dashboard/list/": KNOWN,
    "/superset/dashboard/enrolment/": KNOWN,
    "/api/v1/dashboard/": KNOWN,
    "/api/v1/dashboard/enrolment": KNOWN,
    "/api/v1/dashboard/enrolment/charts": KNOWN,
    "/api/v1/dashboard/enrolment/datasets": KNOWN,
    "/api/v1/chart/": KNOWN,
    "/api/v1/me/": KNOWN,
    "/api/v1/me/roles/": KNOWN,
    "/api/v1/database/": BUILDERS,
    "/sqllab/": BUILDERS,
    "/api/v1/saved_query/": BUILDERS,
    "/api/v1/query/": BUILDERS,
    "/api/v1/dashboard/export/?q=!(1)": BUILDERS,
    "/api/v1/chart/export/?q=!(1)": BUILDERS,
    "/tablemodelview/list/": KNOWN,
    "/databaseview/list/": BUILDERS,
    "/api/v1/log/": OPERATORS,
    "/api/v1/rowlevelsecurity/": OPERATORS,
    "/api/v1/css_template/": OPERATORS,
    "/api/v1/annotation_layer/": OPERATORS,
    "/users/": OPERATORS,
    "/roles/": OPERATORS,
    "/api/v1/assets/export/": OPERATORS,
    # Off for all.
    "/api/v1/report/": set(),
    "/api/v1/security/roles/": set(),
    "/api/v1/security/users/": set(),
    "/swagger/v1": set(),
    "/register/form": set(),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_route_is_for_whom_the_table_says(sessions: dict[str, Session], route: str) -> None:
    answers = {who: each.call("GET", route) for who, each in sessions.items()}
    opened = {who for who, answer in answers.items() if answer.status_code == 200}
    assert opened == ROUTES[route], {who: each.status_code for who, each in answers.items()}
    for who, answer in answers.items():
        assert answer.status_code < 500, f"{who}: {answer.text[:300]}"


def chart_data(session: Session, superset: Service, **query: Any) -> Any:
    ((dataset,),) = superset.query("SELECT id FROM tables WHERE table_name = 'enrolment'")
    body = {
        "datasource": {"id": dataset, "type": "table"},
        "queries": [{"columns": ["year"], "metrics": ["students_sum"], "row_limit": 10, **query}],
        "result_format": "json",
        "result_type": "full",
    }
    return session.call("POST", "/api/v1/chart/data", json=body)


@pytest.mark.parametrize("who", PEOPLE)
def test_everybody_who_is_known_sees_the_rows_of_a_chart(
    superset: Service, sessions: dict[str, Session], who: str
) -> None:
    answer = chart_data(sessions[who], superset)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["result"][0]["data"]
    assert sum(row["students_sum"] for row in rows) == 1830


def test_nobody_sees_no_row(superset: Service, sessions: dict[str, Session]) -> None:
    assert chart_data(sessions[NOBODY], superset).status_code in (400, 401, 403)


def sql(session: Session, superset: Service, text: str) -> Any:
    ((database,),) = superset.query("SELECT id FROM dbs")
    body = {
        "database_id": database,
        "sql": text,
        "schema": "marts",
        "client_id": secrets.token_hex(5),
        "runAsync": False,
        "queryLimit": 10,
    }
    return session.call("POST", "/api/v1/sqllab/execute/", json=body)


def test_analysts_try_sql_on_the_marts(superset: Service, sessions: dict[str, Session]) -> None:
    answer = sql(
        sessions["analysts"], superset, "SELECT sum(students) AS total FROM marts.enrolment"
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"] == [{"total": 1830}]


# What is tried, and the word of the refusal.
REFUSED_SQL = {
    "a source's rows": ("SELECT * FROM raw_hr.employees", "raw_hr"),
    "the journal": ("SELECT * FROM ops.runs", "ops"),
    "roles": ("SELECT * FROM pg_catalog.pg_authid", "pg_catalog"),
    "a write": ("DELETE FROM marts.enrolment", "DML"),
    "a write in a read": (
        "WITH x AS (DELETE FROM marts.enrolment RETURNING 1) SELECT * FROM x", "DML",
    ),
    "a table": ("CREATE TABLE marts.x (a int)", "DML"),
    "a temporary table": ("CREATE TEMPORARY TABLE x (a int)", "DML"),
    "the time limit": ("SET statement_timeout = 0", "SET is not a query"),
    "the time limit by a function": (
        "SELECT set_config('statement_timeout', '0', false)", "set_config",
    ),
    "the right to write": ("SET default_transaction_read_only = off", "SET is"),
    "another role": ("SET ROLE postgres", "is not a query"),
    "the time limit beside a query": ("SELECT 1; SET statement_timeout = 0", "SET is"),
    "a file": ("SELECT pg_read_file('/etc/passwd')", "pg_read_file"),
    "a program": ("COPY (SELECT 1) TO PROGRAM 'true'", "COPY is"),
    "a pause": ("SELECT pg_sleep(1)", "pg_sleep"),
    "another table by XML": ("SELECT query_to_xml('select 1', true, true, '')", "query_to_xml"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "word"), REFUSED_SQL.values(), ids=REFUSED_SQL.keys())
def test_sql_that_reaches_further_is_refused(
    superset: Service, sessions: dict[str, Session], text: str, word: str
) -> None:
    answer = sql(sessions["analysts"], superset, text)
    assert answer.status_code >= 400, answer.text
    said = answer.json()["errors"][0]["message"]
    assert word in said, said
    assert superset.warehouse not in answer.text


def test_a_template_in_sql_is_text(superset: Service, sessions: dict[str, Session]) -> None:
    answer = sql(sessions["analysts"], superset, "SELECT '{{ 1 + 1 }}' AS a")
    assert answer.json()["data"] == [{"a": "{{ 1 + 1 }}"}], answer.text


def test_leadership_changes_nothing(superset: Service, sessions: dict[str, Session]) -> None:
    head = sessions["leadership"]
    ((dashboard,),) = superset.query("SELECT id FROM dashboards WHERE slug = 'enrolment'")
    tries = {
        "a dashboard": head.call("POST", "/api/v1/dashboard/", json={"dashboard_title": "x"}),
        "a title": head.call(
            "PUT", f"/api/v1/dashboard/{dashboard}", json={"dashboard_title": "x"}
        ),
        "an end": head.call("DELETE", f"/api/v1/dashboard/{dashboard}"),
        "a chart": head.call("POST", "/api/v1/chart/", json={"slice_name": "x"}),
        "SQL": sql(head, superset, "SELECT 1"),
    }
    assert {what: each.status_code for what, each in tries.items()} == dict.fromkeys(tries, 403)


def test_analysts_add_no_database_and_no_table_beside_the_marts(
    superset: Service, sessions: dict[str, Session]
) -> None:
    analyst = sessions["analysts"]
    ((database,),) = superset.query("SELECT id FROM dbs")
    uri = {"database_name": "x", "sqlalchemy_uri": "postgresql://a@127.0.0.1:1/b"}
    assert analyst.call("POST", "/api/v1/database/", json=uri).status_code == 403
    assert analyst.call("PUT", f"/api/v1/database/{database}", json={}).status_code == 403
    assert analyst.call("DELETE", f"/api/v1/database/{database}").status_code == 403
    # Superset lets a table of elsewhere be named; that it gives no row is the warehouse's doing.
    body = {"database": database, "schema": "raw_hr", "table_name": "employees"}
    made = analyst.call("POST", "/api/v1/dataset/", json=body)
    assert made.status_code in (201, 403, 422), made.text
    if made.status_code == 201:
        query = {
            "datasource": {"id": made.json()["id"], "type": "table"},
            "queries": [{"columns": ["name"], "row_limit": 10}],
        }
        refused = analyst.call("POST", "/api/v1/chart/data", json=query)
        assert "permission denied" in refused.text
        assert refused.status_code >= 400


def test_a_role_has_what_the_table_says_and_the_marts_and_no_more(superset: Service) -> None:
    rows = superset.query(
        "SELECT r.name, p.name, v.name FROM ab_role r"
        " JOIN ab_permission_view_role x ON x.role_id = r.id"
        " JOIN ab_permission_view pv ON pv.id = x.permission_view_id"
        " JOIN ab_permission p ON p.id = pv.permission_id"
        " JOIN ab_view_menu v ON v.id = pv.view_menu_id WHERE r.name = ANY(%s)",
        list(ROLES),
    )
    marts = f"[School].[{superset.role('warehouse')}].[marts]"
    for role, wanted in ROLES.items():
        held = {(permission, view) for name, permission, view in rows if name == role}
        assert wanted <= held
        of_ones_own = {view for _, view in held - wanted} - {marts}
        assert of_ones_own <= {
            "UserDBModelView", "UserOAuthModelView", "ResetMyPasswordView", "UserInfoEditView",
        }  # fmt: skip
        assert ("schema_access", marts) in held


def test_who_is_not_logged_in_has_no_permission(superset: Service) -> None:
    assert superset.query(
        "SELECT count(*) FROM ab_permission_view_role x JOIN ab_role r ON r.id = x.role_id"
        " WHERE r.name = 'Public'"
    ) == [(0,)]


def test_analysts_may_all_that_leadership_may() -> None:
    assert LOOK < BUILD
    assert {LEADERSHIP, ANALYSTS} == set(ROLES)
