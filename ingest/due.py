"""What is due of every table: the plans of a run, from what both sides say of themselves.

Decided without any database; nothing is changed on either side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from frame.failure import Failure
from ingest import names, planning
from ingest.classification import classify
from ingest.errors import SchemaChangedError
from ingest.types import Landings, TypeStep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.contract import Pipeline
    from ingest.drift import Shape
    from ingest.job import Scope
    from ingest.plan import State, TablePlan
    from ingest.rules import TableRule
    from ingest.shapes import Relation, SourceTables, TableShape, WarehouseTypes


@dataclass(frozen=True)
class LeftOver:
    """A published table that the source's tables do not account for, and where it came from."""

    table: str
    name: str  # without its schema
    source: str


@dataclass(frozen=True)
class Published:
    """What the warehouse says of itself before a run.

    ``states`` are those of the tables that are published, by name: the run's, and whatever else
    the pipeline published, as a table may have another name now; ``left_over`` is what the
    pipeline published besides; ``strangers`` are errors of tables whose names something has that
    ingest did not make, without the schema.
    """

    types: WarehouseTypes
    states: Mapping[str, State]
    left_over: tuple[LeftOver, ...] = ()
    strangers: Mapping[str, Failure] = field(default_factory=dict)


@dataclass(frozen=True)
class Due:
    """The plan of each table, the errors of those that have none, and the types to make first.

    ``left_out`` is what patterns leave out as it is no table.
    """

    plans: tuple[TablePlan, ...]
    failed: dict[str, Failure]
    steps: tuple[TypeStep, ...]
    left_out: tuple[Relation, ...]


def decide(
    pipeline: Pipeline, tables: SourceTables, published: Published, scope: Scope, hashed: str
) -> Due:
    """Return what a run of ``scope`` does; ``hashed`` is the mark of the key for hashed columns.

    Raises Failure if an interval is asked for that suits no table.
    """
    reserved = frozenset(relation.name for relation in tables.rules)
    landings = Landings(pipeline.published_schema, tables.types, published.types, reserved)
    plans: list[TablePlan] = []
    failed = {published_name(pipeline, each): why for each, why in tables.closed.items()}
    failed |= tables.missing
    unguarded: dict[Relation, Failure] = {}
    if not scope.only:  # of some tables alone nothing is known of the others
        failed |= _gone(pipeline, published.left_over)
        unguarded = {} if scope.full_refresh else _unguarded(pipeline, tables, published)
    for shape in tables.shapes:
        name = published_name(pipeline, shape.relation)
        why = unguarded.get(shape.relation) or published.strangers.get(shape.relation.name)
        if why is not None:
            failed[name] = why
            continue
        try:
            planned = planning.build(
                pipeline,
                tables.rules[shape.relation],
                shape,
                landings,
                state=published.states.get(name),
                before=_before(published, pipeline, shape),
                hashed=hashed,
                full_refresh=scope.full_refresh,
                interval=scope.interval,
            )
        except Failure as error:
            failed[name] = error
        else:
            plans.append(planned.sample(scope.rows) if scope.rows else planned)
    if interval := scope.interval:
        plans = [each for each in plans if each.read.cursor and interval.suits(each.read.cursor)]
        if not plans and not failed:
            raise Failure(
                f"source {pipeline.source}: expected a table whose cursor has such values as"
                f" {interval.since} and {interval.until}, found none",
                hint="An interval is read again of tables with load: incremental or append.",
            )
    return Due(
        tuple(each for each in plans if str(each) not in scope.done),
        {table: error for table, error in failed.items() if table not in scope.done},
        tuple(landings.steps),
        tables.left_out,
    )


def published_name(pipeline: Pipeline, relation: Relation) -> str:
    """Return the name that a table of the source is published under."""
    return names.display(pipeline.published_schema, relation.name)


def patterns(pipeline: Pipeline) -> list[TableRule]:
    """Return the rules by whose patterns ``pipeline`` chooses tables."""
    return [rule for rule in pipeline.tables if rule.table.pattern]


def _before(published: Published, pipeline: Pipeline, shape: TableShape) -> Shape | None:
    """Return the shape that a source table had at its last load, under whatever name.

    A failover keeps its oid; another table of that oid has columns withheld without need, no more.
    """
    own = published.states.get(published_name(pipeline, shape.relation))
    for state in (*([own] if own else []), *published.states.values()):
        if state.shape.oid == shape.relation.oid:
            return state.shape
    return None


def _unguarded(
    pipeline: Pipeline, tables: SourceTables, published: Published
) -> dict[Relation, Failure]:
    """Return an error for tables of a pattern that hashes or leaves out what none of them has."""
    failed: dict[Relation, Failure] = {}
    for rule in pipeline.tables:
        shapes = [each for each in tables.shapes if tables.rules[each.relation] is rule]
        found = [
            classify(rule.columns, shape.columns, _before(published, pipeline, shape))
            for shape in shapes
        ]
        missing = rule.columns.withheld - {
            each.name for withheld in found for each in withheld.values()
        }
        if missing and rule.table.pattern:
            failed |= {
                shape.relation: Failure(
                    f"table {shape.relation}: columns: expected {', '.join(sorted(missing))} in a"
                    f" table of {rule.name}, found none",
                    hint="Mend the name in the pipeline file, lest the column be published as it"
                    " is; case matters here.",
                )
                for shape in shapes
            }
    return failed


def _gone(pipeline: Pipeline, left_over: tuple[LeftOver, ...]) -> dict[str, Failure]:
    """Return an error for each published table of a pattern whose source is there no longer."""
    return {
        each.table: SchemaChangedError(
            f"table {each.table}: expected its source {each.source}, found it gone",
            hint="Drop the table, or keep its rows by moving it into another schema; if the source"
            " has another name now, it is loaded under that.",
        )
        for each in left_over
        if any(
            rule.means(rule.table.schema, each.name)
            and names.display(rule.table.schema, each.name) == each.source
            for rule in patterns(pipeline)
        )
    }
