"""A table ``staff`` with a cursor, and its load by increments."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ingest.run import Loaded
    from tests.ingest.world import World

STAFF = (
    "CREATE TABLE staff (id int PRIMARY KEY, name text, updated_at timestamptz)",
    "INSERT INTO staff SELECT n, 'Name ' || n, '2026-01-01'::timestamptz + n * interval '1 hour'"
    " FROM generate_series(1, 100) n",
)


def rule(**keys: str) -> str:
    """Return the YAML of a rule for public.staff, merged by increments unless ``keys`` say."""
    found = {"load": "incremental", "cursor": "updated_at", "lookback": "0s"} | keys
    lines = [f"    {key}: {value}" for key, value in found.items() if value]
    return "name: public.staff\n" + "\n".join(lines)


def load(world: World, text: str = "", **how: object) -> Loaded:
    (loaded,) = world.run(text or rule(), **how).loaded
    return loaded
