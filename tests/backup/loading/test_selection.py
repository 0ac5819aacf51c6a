from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backup.loading.archive import Archive, read_archive
from backup.loading.selection import (
    Selection,
    all_entries,
    of_tables,
    without_roles,
    without_tables,
)
from frame.failure import Failure
from tests.backup.postgres.zoo import CAGE, dump, make_zoo

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import PostgresServer


@pytest.fixture(scope="module")
def zoo(
    postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Archive, str, str]:
    """The archive, and its two roles."""
    database = postgres.create_database()
    keeper, visitor = make_zoo(database)
    path: Path = tmp_path_factory.mktemp("zoo") / "zoo"
    return read_archive(dump(database, path)), keeper, visitor


def kinds(selection: Selection) -> dict[str, int]:
    """Return how many entries of each kind there are."""
    found: dict[str, int] = {}
    for entry in selection.entries[3:]:  # behind encoding, strings and search_path
        found[entry.kind] = found.get(entry.kind, 0) + 1
    return found


def test_a_table_is_restored_with_all_that_is_its_own(zoo: tuple[Archive, str, str]) -> None:
    assert kinds(of_tables(zoo[0], [("public", CAGE)])) == {
        "TABLE": 1, "TABLE DATA": 1, "DEFAULT": 1, "SEQUENCE": 2, "SEQUENCE OWNED BY": 1,
        "SEQUENCE SET": 2, "CONSTRAINT": 2, "CHECK CONSTRAINT": 1, "FK CONSTRAINT": 2, "INDEX": 2,
        "STATISTICS": 1, "TRIGGER": 1, "RULE": 1, "POLICY": 2, "ROW SECURITY": 1, "ACL": 3,
        "COMMENT": 9,
    }  # fmt: skip


def test_a_partitioned_table_is_restored_with_its_partitions(
    zoo: tuple[Archive, str, str],
) -> None:
    selection = of_tables(zoo[0], [("public", "marks")])
    assert kinds(selection) == {
        "TABLE": 4, "TABLE ATTACH": 3, "TABLE DATA": 2, "DEFAULT": 1, "SEQUENCE": 1,
        "SEQUENCE OWNED BY": 1, "SEQUENCE SET": 1, "CONSTRAINT": 4, "INDEX": 4, "INDEX ATTACH": 6,
        "POLICY": 1, "ROW SECURITY": 1, "TRIGGER": 1,
    }  # fmt: skip


def test_a_partition_alone_is_a_table(zoo: tuple[Archive, str, str]) -> None:
    assert kinds(of_tables(zoo[0], [("public", "marks_2")])) == {
        "TABLE": 2, "TABLE ATTACH": 1, "TABLE DATA": 1, "CONSTRAINT": 2, "INDEX": 2,
        "INDEX ATTACH": 2,
    }  # fmt: skip


def test_tables_whose_names_look_alike_are_told_apart(zoo: tuple[Archive, str, str]) -> None:
    for name in (("a b", "c"), ("a", "b c")):
        table, rows = of_tables(zoo[0], [name]).entries[3:]
        assert (table.schema, table.name) == (rows.schema, rows.name) == name


def test_a_table_that_is_not_there_is_refused(zoo: tuple[Archive, str, str]) -> None:
    with pytest.raises(Failure, match=r"has no table a\.b"):
        of_tables(zoo[0], [("a", "b"), ("public", "marks")])


def test_what_needs_an_excluded_table_is_told(zoo: tuple[Archive, str, str]) -> None:
    archive = zoo[0]
    selection = without_tables(all_entries(archive), archive, [("public", "species")])
    told = {(each.kind, each.name): each.why for each in selection.left_out}
    assert told == {
        ("MATERIALIZED VIEW", "names"): "it needs TABLE public.species",
        ("MATERIALIZED VIEW DATA", "names"): "it needs MATERIALIZED VIEW public.names",
        ("FK CONSTRAINT", f"{CAGE} {CAGE}_species_fkey"): "it needs TABLE public.species",
        ("POLICY", f"{CAGE} seen"): "it needs TABLE public.species",
    }
    kept = {entry.number for entry in selection.entries}
    assert not any(entry.name.startswith("species") for entry in selection.entries)
    for entry in selection.entries:
        assert kept >= {each for each in entry.dependencies if each in archive.by_number}


def test_a_partition_is_excluded_without_its_parent(zoo: tuple[Archive, str, str]) -> None:
    archive = zoo[0]
    selection = without_tables(all_entries(archive), archive, [("public", "marks_1")])
    assert selection.left_out == ()
    assert not any("marks_1" in entry.name for entry in selection.entries)
    assert any(entry.kind == "FK CONSTRAINT" for entry in selection.entries)


def test_a_policy_for_a_role_that_is_not_there_is_left_out(
    zoo: tuple[Archive, str, str],
) -> None:
    archive, keeper, visitor = zoo
    whole = all_entries(archive)
    assert without_roles(whole, {keeper, visitor}) == whole
    (told,) = without_roles(whole, {keeper}).left_out
    assert (told.kind, told.schema_name, told.name) == ("POLICY", "public", f"{CAGE} seen")
    assert told.why == f"it is for the role {visitor}, which is not there"
    kept = without_roles(whole, ()).entries
    assert sorted(e.name for e in kept if e.kind == "POLICY") == [f"{CAGE} own", "marks anyone"]
