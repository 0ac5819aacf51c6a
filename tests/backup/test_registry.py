from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.registry import check_cron, load_registry
from backup.settings import REGISTRY
from frame.failure import WrongUse

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """
[[server]]
name = "{name}"
vault_path = "backup/servers/sources"
schedule = "0 0 * * *"
"""
ENTRY = """
[[database]]
name = "{name}"
server = "sources"
vault_path = "backup/databases/{path}"
schedule = "{schedule}"
retention = "daily"
expected_size = "1GB"
"""


def server(name: str = "sources") -> str:
    return SERVER.format(name=name)


def entry(name: str = "hr", path: str = "hr", schedule: str = "0 1 * * *") -> str:
    return ENTRY.format(name=name, path=path, schedule=schedule)


def test_the_registry_of_the_package_is_sound() -> None:
    registry = load_registry(REGISTRY)
    names = [database.name for database in registry.database]
    assert names == ["hr", "records", "service_desk", "airflow", "superset", "warehouse"]
    entries = registry.entries
    assert [entry.name for entry in entries] == ["postgres_globals", *names, "nomad", "vault"]
    schedules = {entry.schedule for entry in entries}
    assert len(schedules) == len(entries), "two dumps at once share the servers"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (server() + entry() + entry(path="other"), "the name 'hr' is there twice"),
        (server() + entry() + entry("sources_globals", "x"), "'sources_globals' is there twice"),
        (server() + entry() + entry("hr2"), "vault_path 'backup/databases/hr' is there twice"),
        (server("main") + entry(), "'hr' is on the server 'sources', of which there is no"),
        (entry(), "server: Field required"),
        (server() + entry() + '[[snapshot]]\nname = "consul"\nschedule = "0 1 * * *"', "nomad"),
        (entry(schedule="0 25 * * *"), "'25' where 0 to 23 may stand"),
        (entry(schedule="@daily"), "has 1 fields, not 5"),
        (entry("drills"), "kept for the program's own use"),
        (entry("Human Resources"), "name"),
        (entry() + 'colour = "red"', "colour"),
        ("[[database]\n", "not TOML"),
        ("", "database"),
    ],
)
def test_what_is_wrong_in_a_registry_is_named(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "databases.toml"
    path.write_text(text)
    with pytest.raises(WrongUse, match="registry") as caught:
        load_registry(path)
    assert fault in caught.value.message


def test_an_unknown_database_is_told_with_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "databases.toml"
    path.write_text(server() + entry())
    known = "'payroll' is not in the registry, which holds sources_globals, hr"
    with pytest.raises(WrongUse, match=known):
        load_registry(path).select(["payroll"])


@pytest.mark.parametrize("text", ["* * * * *", "*/15 0-6 1,15 */2 7", "10 1 * * 1-5"])
def test_a_cron_that_nomad_takes_is_taken(text: str) -> None:
    assert check_cron(text) == text


@given(st.text("0123456789*/-, \n", max_size=20))
def test_a_wrong_cron_is_never_another_error(text: str) -> None:
    try:
        check_cron(text)
    except ValueError as error:
        assert "cron" in str(error)
