"""What stands in Airflow's own database and should stand in Vault: every task may read it there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scripts.row import Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

PAGE = 100  # of an answer of Airflow's API; it gives no more
HIDDEN = "***"  # what Airflow shows of a value whose name is a secret's


def secrets(platform: Access) -> Iterator[Row]:
    """Yield the connections, and the variables that Airflow itself takes for secrets, by name."""
    found = _all(platform, "connections")
    yield _row("connections", [each["connection_id"] for each in found])
    found = _all(platform, "variables")
    yield _row("variables", [each["key"] for each in found if HIDDEN in (each["value"] or "")])


def _all(platform: Access, kind: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while True:
        page = platform.airflow(kind, params={"limit": PAGE, "offset": len(found)})
        found += page[kind]
        if not page[kind] or len(found) >= page["total_entries"]:
            return found


def _row(kind: str, names: list[str]) -> Row:
    if not names:
        return Row(kind, "no secret in Airflow's own database", well=True)
    state = f"{len(names)} in Airflow's own database: {', '.join(sorted(names))}"
    return Row(kind, state, well=False)
