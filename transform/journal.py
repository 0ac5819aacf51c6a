"""What readers and the next run find of this one: `marts.published_marts`, a row a mart.

It holds names and times and never a message: PostgreSQL's may repeat a value of a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import psycopg

    from transform.results import Mart

TABLE = "published_marts"
NO_RESULTS = "the run ended without results"

_CREATE: LiteralString = """
CREATE TABLE IF NOT EXISTS marts.published_marts (
  mart text PRIMARY KEY,
  published_at timestamptz,
  checked_at timestamptz NOT NULL,
  unsound text
)
"""
_COMMENT: LiteralString = """
COMMENT ON TABLE marts.published_marts IS
  'When each mart was last published, and what kept the newest run from publishing it.'
"""
_WRITE: LiteralString = """
INSERT INTO marts.published_marts (mart, published_at, checked_at, unsound)
VALUES (%(mart)s, CASE WHEN %(unsound)s::text IS NULL THEN now() END, now(), %(unsound)s)
ON CONFLICT (mart) DO UPDATE SET
  published_at = coalesce(excluded.published_at, published_marts.published_at),
  checked_at = excluded.checked_at, unsound = excluded.unsound
"""
_LOADS: LiteralString = """
SELECT "table", load_id FROM ops.state
WHERE replace(split_part("table", '.', 1), '"', '') = ANY (%s) ORDER BY 1
"""
_BEFORE: LiteralString = (
    "SELECT coalesce(bool_or(unsound IS NOT NULL), false) FROM marts.published_marts"
)


def loads(connection: psycopg.Connection[Any], schemas: Sequence[str]) -> list[tuple[str, str]]:
    """Return the load that each table of ``schemas`` has now, as the pipelines write it down.

    That is in the transaction that publishes it: the same before and after a build means that all
    of its models read the same rows.
    """
    there = connection.execute("SELECT to_regclass('ops.state') IS NOT NULL").fetchone()
    if there != (True,):  # no pipeline of the platform has filled this warehouse
        return []
    return connection.execute(_LOADS, [list(schemas)]).fetchall()


def write(
    connection: psycopg.Connection[Any], found: Iterable[Mart], refused: Iterable[str]
) -> bool:
    """Write how a run went, ``refused`` being sound and not published; return how the last one did.

    That is whether something was unsound in it. Marts that the project no longer has lose their
    row; their table stays, as somebody may still read it.
    """
    held_up, marts = set(refused), list(found)
    with connection.transaction():
        _create(connection)
        ((unsound_before,),) = connection.execute(_BEFORE).fetchall()
        for mart in marts:
            faults = [f"{fault.of}: {fault.status}" for fault in mart.faults]
            faults += ["not published"] if mart.name in held_up else []
            connection.execute(_WRITE, {"mart": mart.name, "unsound": "; ".join(faults) or None})
        connection.execute(
            "DELETE FROM marts.published_marts WHERE mart <> ALL (%s)",
            [[mart.name for mart in marts]],
        )
    return bool(unsound_before)


def write_failure(connection: psycopg.Connection[Any]) -> None:
    """Write that a run ended without results, so that the next one is a recovery."""
    with connection.transaction():
        _create(connection)
        connection.execute(
            "UPDATE marts.published_marts SET checked_at = now(), unsound = %s", [NO_RESULTS]
        )


def _create(connection: psycopg.Connection[Any]) -> None:
    connection.execute(_CREATE)
    connection.execute(_COMMENT)
