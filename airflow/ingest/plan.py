"""What a run loads, decided without any database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest import names, types
from ingest.errors import IngestError, UnknownTableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ingest.contract import Pipeline
    from ingest.shapes import Relation, TableShape, WarehouseTypes


@dataclass(frozen=True)
class ColumnPlan:
    """One column: its name, how it lands, and whether it stays NOT NULL."""

    name: str
    landing: types.Landing
    not_null: bool


@dataclass(frozen=True)
class TablePlan:
    """One table's way: ``source`` into ``staging_schema``.``name``, then published as ``name``."""

    source: Relation
    published_schema: str
    staging_schema: str
    name: str
    columns: tuple[ColumnPlan, ...]
    primary_key: tuple[str, ...]

    def __str__(self) -> str:
        return names.display(self.published_schema, self.name)


@dataclass(frozen=True)
class Plan:
    """All tables of a run and the enum types that they need first."""

    tables: tuple[TablePlan, ...]
    enums: types.EnumPlan


def select(
    pipeline: Pipeline, relations: Iterable[Relation], only: str | None = None
) -> tuple[Relation, ...]:
    """Return the tables of the source that ``pipeline`` names, by name; ``only`` picks one.

    ``only`` is a table's name with or without its schema. Raises IngestError for a name or a
    pattern that finds nothing, a table that the role may not read, or two of one published name,
    and UnknownTableError for an ``only`` that is not among the tables.
    """
    relations = tuple(relations)
    chosen: dict[str, Relation] = {}
    for rule in pipeline.tables:
        wanted = rule.table
        found = [
            relation
            for relation in relations
            if wanted.matches(relation.schema, relation.name)
            and (relation.is_table or not wanted.pattern)
        ]
        if not found:
            raise IngestError(
                f"source {pipeline.source}: expected {rule.name}, found no such table",
                hint="Mend the name in the pipeline file; views are loaded only if named.",
            )
        for relation in found:
            other = chosen.setdefault(relation.name, relation)
            if other is not relation:
                raise IngestError(
                    f"schema {pipeline.published_schema}: table {relation.name}: expected one"
                    f" source, found {other} and {relation}",
                    hint="Publish one of them with a pipeline file and schema of its own.",
                )
    tables = tuple(chosen[name] for name in sorted(chosen))
    if only is not None:
        tables = (_pick(pipeline, tables, only),)
    _check_readable(pipeline, tables)
    return tables


def build(pipeline: Pipeline, shapes: Sequence[TableShape], warehouse: WarehouseTypes) -> Plan:
    """Return how each of ``shapes`` lands in the warehouse."""
    enums = types.plan_enums(shapes, warehouse)
    tables = tuple(
        TablePlan(
            source=shape.relation,
            published_schema=pipeline.published_schema,
            staging_schema=pipeline.staging_schema,
            name=shape.relation.name,
            columns=tuple(
                ColumnPlan(
                    column.name,
                    types.landing(
                        column.type,
                        schema=pipeline.published_schema,
                        enums=enums,
                        warehouse=warehouse,
                    ),
                    column.not_null,
                )
                for column in shape.columns
            ),
            primary_key=shape.primary_key,
        )
        for shape in shapes
    )
    return Plan(tables, enums)


def _pick(pipeline: Pipeline, tables: Sequence[Relation], only: str) -> Relation:
    for relation in tables:
        if only in (relation.name, str(relation), f"{relation.schema}.{relation.name}"):
            return relation
    raise UnknownTableError(
        f"source {pipeline.source}: expected one of {', '.join(map(str, tables))}, found {only}",
        hint="Name a table of the pipeline file, with or without its schema.",
    )


def _check_readable(pipeline: Pipeline, tables: Sequence[Relation]) -> None:
    closed = [str(relation) for relation in tables if not relation.readable]
    if closed:
        raise IngestError(
            f"source {pipeline.source}: expected the right to read every table,"
            f" found none on {', '.join(closed)}",
            hint="Grant the connection's role USAGE on the schema and SELECT on the tables.",
        )
