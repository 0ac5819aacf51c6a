"""dbt as a child: what it is given, what it leaves, and its end when it hangs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from transform.build import build, document
from transform.errors import BuildError
from transform.results import marts, may_pass

if TYPE_CHECKING:
    from tests.transform.conftest import Small

pytestmark = pytest.mark.programs


def test_it_builds_beside_what_readers_see_and_says_so_line_by_line(small: Small) -> None:
    lines: list[str] = []
    manifest, results = build(small.project, small.database, say=lines.append)
    assert [(mart.name, mart.faults) for mart in marts(manifest, results)] == [
        ("alone", ()), ("classes", ()), ("pupils", ()),
    ]  # fmt: skip
    assert small.query("SELECT * FROM marts_build.classes ORDER BY 1") == [
        ("class 0", 2), ("class 1", 3),
    ]  # fmt: skip
    assert small.query("SELECT FROM pg_tables WHERE schemaname = 'marts'") == []
    assert any("OK created sql table model marts_build.classes" in line for line in lines)
    assert (small.project.artefacts / "compiled/small/models/classes.sql").exists()
    assert not (small.project.folder / "target").exists(), "the project is only read"


def test_what_fails_is_named_with_all_that_hangs_on_it(small: Small) -> None:
    small.execute("INSERT INTO source VALUES (5)")
    small.write("models/alone.sql", "select no_such_column as n")
    manifest, results = build(small.project, small.database)
    alone, classes, pupils = marts(manifest, results)
    assert [(fault.of, fault.status) for fault in pupils.faults] == [("unique_pupils_n", "fail")]
    assert [(fault.of, fault.status) for fault in classes.faults] == [("classes", "skipped")]
    assert alone.faults[0].status == "error"
    assert "no_such_column" in alone.faults[0].message
    assert may_pass(results)
    small.write("models/alone.sql", "select 1 as n")
    assert not may_pass(build(small.project, small.database)[1])


def test_a_project_that_dbt_cannot_read_is_one_error_and_its_log_says_which(small: Small) -> None:
    lines: list[str] = []
    small.write("models/alone.sql", "select {{ no_such_macro() }}")
    build(small.project, small.database, say=lines.append)  # an error of one model
    small.write("models/marts.yml", "models: [")
    with pytest.raises(BuildError, match=r"small: expected manifest\.json, found none"):
        build(small.project, small.database, say=lines.append)
    assert any("marts.yml" in line for line in lines)


def test_a_model_that_hangs_is_ended_with_its_limit(small: Small) -> None:
    small.write("models/alone.sql", "select 1 as n from pg_sleep(300)")
    started = time.monotonic()
    with pytest.raises(BuildError, match="expected it to end within 15 s"):
        build(small.project, small.database, limit=15)
    assert time.monotonic() - started < 60


def test_no_password_is_in_anything_that_it_says_or_writes(small: Small) -> None:
    secret = str(small.database.parameters["password"])
    small.write("models/alone.sql", "select '{{ target.host }}' as n, no_such_column")
    lines: list[str] = []
    build(small.project, small.database, say=lines.append)
    assert secret not in "\n".join(lines) + repr(small.database)
    for file in small.project.artefacts.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file


def test_its_page_is_one_file_and_shows_what_readers_have(small: Small) -> None:
    build(small.project, small.database)
    page = document(small.project, small.database).read_text()
    assert "One row a class." in page
    assert '"marts"' in page
    assert "marts_build" not in page
