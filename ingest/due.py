"""What is due of every table: the plans of a run, from what both sides say of themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

from frame.failure import Failure
from ingest import catalog, names, plan, types
from ingest.errors import SchemaChangedError, from_postgres

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingest.contract import Pipeline
    from ingest.extract import Source
    from ingest.job import Job, Scope
    from ingest.plan import TablePlan
    from ingest.shapes import Relation


def decide(
    job: Job,
    source: Source,
    target: psycopg.Connection[Any],
    scope: Scope,
    hashed: str,
) -> tuple[list[TablePlan], dict[str, Failure], list[types.TypeStep]]:
    """Return the plan of each table, the errors of those that have none, and the types to make.

    Nothing is changed on either side.
    """
    pipeline = job.pipeline
    try:
        known = catalog.warehouse_types(target, pipeline.published_schema, source.types.values())
    except psycopg.Error as error:
        table = f"{pipeline.published_schema}.*"
        raise from_postgres(error, side="warehouse", table=table) from error
    tables = frozenset(relation.name for relation in source.rules)
    landings = types.Landings(pipeline.published_schema, source.types, known, tables)
    published = {
        shape.relation: names.display(pipeline.published_schema, shape.relation.name)
        for shape in source.shapes
    }
    states = job.journal(target).states(published.values())
    plans: list[TablePlan] = []
    failed: dict[str, Failure] = {}
    unguarded: dict[Relation, Failure] = {}
    if scope.only is None:  # of one table alone nothing is known of the others
        failed |= _gone(job, target, published)
        unguarded = _unguarded(pipeline, source)
    for shape in source.shapes:
        table = published[shape.relation]
        try:
            if shape.relation in unguarded and not scope.full_refresh:
                raise unguarded[shape.relation]
            planned = plan.build(
                pipeline,
                source.rules[shape.relation],
                shape,
                landings,
                state=states.get(table),
                hashed=hashed,
                full_refresh=scope.full_refresh,
                interval=scope.interval,
            )
        except Failure as error:
            failed[table] = error
        else:
            plans.append(planned)
    if interval := scope.interval:
        plans = [each for each in plans if each.cursor and interval.suits(each.cursor)]
        if not plans and not failed:
            raise Failure(
                f"source {pipeline.source}: expected a table whose cursor has such values as"
                f" {interval.since} and {interval.until}, found none",
                hint="An interval is read again of tables with load: incremental or append.",
            )
    return plans, failed, landings.steps


def _unguarded(pipeline: Pipeline, source: Source) -> dict[Relation, Failure]:
    """Return an error for tables of a pattern that hashes or leaves out what none of them has."""
    failed: dict[Relation, Failure] = {}
    for rule in pipeline.tables:
        shapes = [each for each in source.shapes if source.rules[each.relation] is rule]
        there = {column.name for shape in shapes for column in shape.columns}
        missing = rule.columns.withheld - there
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


def _gone(
    job: Job, target: psycopg.Connection[Any], published: Mapping[Relation, str]
) -> dict[str, Failure]:
    """Return an error for each published table of a pattern whose source is there no longer."""
    patterns = [rule.table for rule in job.pipeline.tables if rule.table.pattern]
    if not patterns:
        return {}
    return {
        table: SchemaChangedError(
            f"table {table}: expected its source {source}, found it gone",
            hint="Drop the table, or keep its rows by moving it into another schema; if the source"
            " has another name now, it is loaded under that.",
        )
        for table, name, source in job.journal(target).left_over(
            job.pipeline.published_schema, published.values()
        )
        if any(
            pattern.matches(pattern.schema, name) and names.display(pattern.schema, name) == source
            for pattern in patterns
        )
    }
