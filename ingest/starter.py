"""Writes a first pipeline file from what a database holds."""

from __future__ import annotations

import json
import re
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg

from frame.failure import Failure
from ingest import catalog, connections
from ingest.errors import from_postgres
from ingest.shapes import NO_TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingest.connections import Address
    from ingest.shapes import TableShape

_LARGE = 50_000  # rows, from which a copy of all of them each night begins to cost


def published_schema(connection_id: str) -> str:
    """Return ``raw_<connection id>`` as a name that needs no quotes."""
    return "raw_" + re.sub(r"[^a-z0-9_]", "_", connection_id.lower())


def pipeline_file(address: Address, *, schemas: Sequence[str], published: str) -> str:
    """Return the text of a pipeline file for every table of ``schemas``.

    A large table with a key is loaded by increments, all others whole. Raises Failure.
    """
    side = f"source {address.id}"
    with closing(connections.source(address, side=side, purpose="ingest init")) as connection:
        try:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            connections.settle(connection)
            relations = catalog.relations(connection, schemas)
            tables = [each for each in relations if each.is_table]
            shapes = catalog.shapes(connection, tables)
        except psycopg.Error as error:
            raise from_postgres(error, side=side, table=", ".join(schemas)) from error
    if not tables:
        raise Failure(
            f"{side}: expected tables in {', '.join(schemas)}, found none",
            hint="Name the schemas with --schema.",
        )
    lines = [
        f"# Tables of {address.id}, as `ingest init` found them. Look it over: which columns must",
        "# not leave the source (columns), what must be true before it is published (checks).",
        f"source: {address.id}",
        f"schema: {published}",
        'schedule: "0 2 * * *" # UTC',
        "owner: data-team",
        "tables:",
    ]
    for shape in shapes:
        lines += _table(shape)
    lines += [
        f"  # {_scalar(str(each))}: {NO_TABLES[each.kind]}, which is loaded only if it is named"
        for each in relations
        if each.needs_name
    ]
    return "\n".join(lines) + "\n"


def _table(shape: TableShape) -> list[str]:
    relation = shape.relation
    name = str(relation)
    lines = [f"  - name: {_scalar(name)}"]
    if not relation.readable:
        return [
            f"  # {_scalar(name)}: this role may not read it",
            *(f"  # {line[2:]}" for line in lines),
        ]
    if shape.primary_key and relation.rows >= _LARGE:
        lines += ["    load: incremental", "    deletes: detect"]
    if not shape.primary_key:
        lines[0] += " # no primary key"
    return lines


def _scalar(text: str) -> str:
    """Return ``text`` as YAML that reads back as it is."""
    if re.fullmatch(r"[A-Za-z_][\w.$]*", text, re.ASCII):
        return text
    if any(ord(character) < ord(" ") for character in text):
        return json.dumps(text)  # which is YAML, too
    return "'" + text.replace("'", "''") + "'"
