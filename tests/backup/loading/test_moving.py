from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from backup.loading.archive import Archive, read_archive
from backup.loading.moving import in_schema, with_schemas
from backup.loading.selection import of_tables
from frame.failure import Failure
from tests.backup.postgres.zoo import dump

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [("a b", "c"), ("public", "marks")]


@pytest.fixture
def archive(database: str, tmp_path: Path) -> Archive:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute('CREATE SCHEMA "a b"; CREATE TABLE "a b".c (); CREATE TABLE c ()')
        connection.execute("CREATE TABLE marks (x int)")
    return read_archive(dump(database, tmp_path / "dump"))


def test_schemas_that_are_missing_come_first(archive: Archive) -> None:
    selection = of_tables(archive, NAMES)
    made = with_schemas(selection, archive, ["public"]).entries[0]
    assert (made.kind, made.name, made.owner) == ("SCHEMA", "a b", "postgres")
    elsewhere = with_schemas(in_schema(selection, 'new "one'), archive, ["public", "a b"])
    assert elsewhere.entries[0].sql == 'CREATE SCHEMA "new ""one";\n'
    assert elsewhere.entries[0].number not in archive.by_number


def test_a_schema_holds_one_table_of_a_name(archive: Archive) -> None:
    with pytest.raises(Failure, match="two relations of one name: c"):
        in_schema(of_tables(archive, [*NAMES, ("public", "c")]), "one")
