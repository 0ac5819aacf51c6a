"""What dbt's own results say of each mart. Pure: the files' contents go in.

The forms are dbt's artefacts `manifest.json` (v12) and `run_results.json` (v6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Of what is built in the warehouse only tables are published; views are a project's own steps.
STEPS = frozenset({"ephemeral", "view"})
RESERVED = frozenset({"published_marts"})  # transform.journal's
TESTS = frozenset({"test", "unit_test"})
PASSED = frozenset({"success", "pass", "warn"})


@dataclass(frozen=True)
class Fault:
    """Why a mart is not sound: the model itself or a test of it, and what dbt says of that."""

    of: str
    status: str
    message: str = ""

    def __str__(self) -> str:
        # Without the message, which may repeat a value of a row: the run's log has it.
        return f"{self.of}: {self.status}"


@dataclass(frozen=True)
class Mart:
    """A table of the project, under the name that readers know; sound if it has no faults.

    ``seconds`` is how long it took to build.
    """

    name: str
    seconds: float = 0.0
    faults: tuple[Fault, ...] = ()


def marts(manifest: Mapping[str, Any], run_results: Mapping[str, Any]) -> list[Mart]:
    """Return every mart of the project, by name.

    It is sound if it was built and every test that depends on it passed or warned. A test that did
    not run proves nothing.
    """
    results = {each["unique_id"]: each for each in run_results["results"]}
    nodes = {**manifest["nodes"], **(manifest.get("unit_tests") or {})}
    found = [
        Mart(
            node["alias"],
            float((results.get(unique_id) or {}).get("execution_time") or 0),
            tuple(_faults(unique_id, nodes, results)),
        )
        for unique_id, node in nodes.items()
        if node["resource_type"] == "model" and node["config"]["materialized"] not in STEPS
    ]
    return sorted(found, key=lambda mart: mart.name)


def _faults(
    unique_id: str, nodes: Mapping[str, Any], results: Mapping[str, Any]
) -> Iterator[Fault]:
    model = nodes[unique_id]
    kind = model["config"]["materialized"]
    if kind != "table":
        yield Fault(model["name"], f"is materialized as {kind}, and only tables are published")
    if model["alias"] in RESERVED:
        yield Fault(model["name"], "has a name that is the platform's")
    tests = [
        test_id
        for test_id, node in nodes.items()
        if node["resource_type"] in TESTS and unique_id in node["depends_on"]["nodes"]
    ]
    for each in (unique_id, *sorted(tests)):
        result = results.get(each) or {}
        status = str(result.get("status") or "did not run")
        if status not in PASSED:
            message = " ".join(str(result.get("message") or "").split())
            yield Fault(nodes[each]["name"], status, message)


def may_pass(run_results: Mapping[str, Any]) -> bool:
    """Tell whether something ended in an error, which trying again may mend; a test that fails not.

    A database that was away, a lock that was not had: dbt calls them errors, like broken SQL.
    """
    return any(each["status"] == "error" for each in run_results["results"])
