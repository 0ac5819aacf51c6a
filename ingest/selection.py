"""Which tables of the source a pipeline file means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from frame.failure import Failure
from ingest import names
from ingest.errors import UnknownTableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ingest.contract import Pipeline
    from ingest.rules import TableRule
    from ingest.shapes import Relation


class Named(Protocol):
    """A table of the source."""

    @property
    def schema(self) -> str:
        """The schema that it is in."""

    @property
    def name(self) -> str:
        """Its name there."""


@dataclass(frozen=True)
class Selection:
    """The tables of the source that a file means, by name, each with its rule.

    ``missing`` are errors of rules that find none, by the name that would be published; a pattern's
    by its own. ``left_out`` is what a pattern matches and leaves out, as it is no table.
    """

    rules: dict[Relation, TableRule]
    missing: dict[str, Failure]
    left_out: tuple[Relation, ...]


def select(
    pipeline: Pipeline, relations: Iterable[Relation], only: tuple[str, ...] = ()
) -> Selection:
    """Return the tables of the source that ``pipeline`` names.

    A rule that names a table goes before a pattern, and among patterns the first. ``only`` picks
    some, by names with or without a schema, the source's or the warehouse's. Raises Failure for two
    tables of one published name, and UnknownTableError for an ``only`` that is not among them.
    """
    relations = tuple(relations)
    chosen: dict[str, Relation] = {}
    rules: dict[Relation, TableRule] = {}
    missing: dict[str, Failure] = {}
    for rule in _in_order(pipeline):
        found = [
            relation
            for relation in relations
            if rule.means(relation.schema, relation.name)
            and (relation.is_table or not rule.table.pattern)
        ]
        if not found:
            wanted = names.display(pipeline.published_schema, rule.table.table)
            missing[rule.name if rule.table.pattern else wanted] = Failure(
                f"source {pipeline.source}: expected {rule.name}, found no such table",
                hint="Mend the name in the pipeline file; views are loaded only if named.",
            )
        for relation in found:
            other = chosen.setdefault(relation.name, relation)
            if other is not relation:
                raise Failure(
                    f"schema {pipeline.published_schema}: table {relation.name}: expected one"
                    f" source, found {other} and {relation}",
                    hint="Publish one of them with a pipeline file and schema of its own, or leave"
                    " it out by except.",
                )
            rules.setdefault(relation, rule)
    tables = tuple(chosen[name] for name in sorted(chosen))
    if only:
        picked = {_pick(pipeline, tables, name) for name in only if name not in missing}
        tables = tuple(table for table in tables if table in picked)
        missing = {name: error for name, error in missing.items() if name in only}
    left_out = tuple(
        relation
        for relation in relations
        if relation.needs_name
        and relation not in rules
        and not only
        and any(rule.means(relation.schema, relation.name) for rule in pipeline.tables)
    )
    return Selection({table: rules[table] for table in tables}, missing, left_out)


def rule(pipeline: Pipeline, schema: str, table: str) -> TableRule | None:
    """Return the rule that ``pipeline`` has for a table of the source, None if it has none."""
    return next((each for each in _in_order(pipeline) if each.means(schema, table)), None)


def _in_order(pipeline: Pipeline) -> list[TableRule]:
    return sorted(pipeline.tables, key=lambda rule: rule.table.pattern)


def is_named(table: Named, pipeline: Pipeline, wanted: Iterable[str]) -> bool:
    """Return whether a name that was asked for is that of a table of the source.

    With or without a schema, the source's or the warehouse's, with or without quotes.
    """
    schemas = table.schema, pipeline.published_schema
    known = {table.name} | {f"{schema}.{table.name}" for schema in schemas}
    known |= {names.display(schema, table.name) for schema in schemas}
    return not known.isdisjoint(wanted)


def _pick(pipeline: Pipeline, tables: Sequence[Relation], only: str) -> Relation:
    for table in tables:
        if is_named(table, pipeline, [only]):
            return table
    raise UnknownTableError(
        f"source {pipeline.source}: expected one of {', '.join(map(str, tables))}, found {only}",
        hint="Name a table of the pipeline file, with or without its schema.",
    )
