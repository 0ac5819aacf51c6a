from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from frame.failure import WrongUse
from scripts.local import databases
from scripts.sources import load_sources

if TYPE_CHECKING:
    from pathlib import Path


def test_the_list_has_the_sources_of_this_machine() -> None:
    assert tuple(each.name for each in load_sources()) == databases.SOURCES


def test_a_source_has_its_own_connection_the_warehouses_and_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(
        '[[source]]\nname = "hr"\n'
        '[[source]]\nname = "library"\nhashes = true\nconnections = ["alerts_webhook"]\n'
    )
    plain, full = load_sources(file)
    assert plain.paths == {
        name: f"connections/ingest/{name}" for name in ("hr", "warehouse", "warehouse_checks")
    }
    assert full.paths == {
        "library": "connections/ingest/library",
        "warehouse": "connections/ingest/warehouse",
        "warehouse_checks": "connections/ingest/warehouse_checks",
        "alerts_webhook": "connections/ingest/alerts_webhook",
        "hash_key": "connections/ingest/hash_key/library",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[source]]\nname = "Hr"', "source.0.name: String should match"),
        ('[[source]]\nname = "hr"\n[[source]]\nname = "hr"', "the source 'hr' is there twice"),
        ('[[source]]\nname = "warehouse"', "the connection 'warehouse' is there twice"),
        ('[[source]]\nname = "hr"\nconnections = ["hash_key"]', "'hash_key' is there twice"),
        (
            '[[source]]\nname = "hr"\nconnections = ["records"]\n[[source]]\nname = "records"',
            "source 'hr': the connection 'records' is another source",
        ),
        ('[[source]]\nname = "hr"\nport = 5', "source.0.port: Extra inputs"),
        ("[[source", "is not TOML"),
    ],
)
def test_what_is_wrong_in_the_list_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "sources.toml"
    file.write_text(text)
    with pytest.raises(WrongUse) as caught:
        load_sources(file)
    assert said in caught.value.message
    assert str(file) in caught.value.message


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match="cannot be read: No such file"):
        load_sources(tmp_path / "none.toml")
