"""XComs that somebody forged for a run that is followed: they cost lines of its log at most."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harmattan.runs.follow import LARGEST, MOST_STREAMS, read_kept
from tests.airflow.harmattan.runs.cluster import until

if TYPE_CHECKING:
    from tests.airflow.harmattan.runs.world import World

TRY = "0193-of-a-try"
TEXTS = st.text(max_size=20)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=10,
)
NEARLY = st.fixed_dictionaries({"try": st.just(TRY) | ANYTHING, "taken": ANYTHING})


@given(ANYTHING | NEARLY)
@example({"try": TRY})
@example({"try": TRY, "taken": [1]})
@example({"try": TRY, "taken": {"a/stdout": "9" * 5000}})
@example({"try": TRY, "taken": {"a/stdout": -1}})
@example({"try": TRY, "taken": {"a/stdout": True}})
@example({"try": TRY, "taken": {str(number): 1 for number in range(MOST_STREAMS + 1)}})
def test_what_was_kept_is_counts_of_this_try_or_nothing(value: Any) -> None:
    taken = read_kept(value, TRY)
    assert taken == {} or taken == value["taken"]
    assert all(type(name) is str for name in taken)
    assert all(type(count) is int and 0 <= count <= LARGEST for count in taken.values())
    assert len(taken) <= MOST_STREAMS


@given(st.dictionaries(TEXTS, st.integers(0, LARGEST), max_size=5))
def test_what_the_try_kept_itself_is_read_again(taken: dict[str, int]) -> None:
    kept = json.loads(json.dumps({"try": TRY, "taken": taken}))
    assert read_kept(kept, TRY) == taken
    assert read_kept(kept, "another") == {}


# What is forged of a run, where Python makes it of the run's own id and its allocation.
FORGED = {
    "no dict": lambda _try, _alloc: ["log_read"],
    "nothing taken": lambda try_id, _alloc: {"try": try_id},
    "no counts": lambda try_id, alloc: {"try": try_id, "taken": {f"{alloc}/stdout": "all"}},
    "below zero": lambda try_id, alloc: {"try": try_id, "taken": {f"{alloc}/stdout": -(10**30)}},
    "the largest": lambda try_id, alloc: {"try": try_id, "taken": {f"{alloc}/stdout": LARGEST}},
    "others": lambda try_id, _alloc: {"try": try_id, "taken": {f"x{n}": n for n in range(900)}},
    "an object": lambda _try, _alloc: {
        "__classname__": "airflow.sdk.definitions.asset.Asset", "__version__": 1,
        "__data__": {"name": "x", "uri": "x"},
    },
}  # fmt: skip
SUMMARY = {"rows": 3}


@pytest.fixture(scope="module")
def forged(airflow: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Runs that lost their triggerer, and whose XComs were forged when the next one came."""
    enough = tmp_path_factory.mktemp("enough") / "file"
    wait = f"echo line 1; until [ -e {enough} ]; do sleep 0.2; done; echo line 2"
    script = f"{wait}; echo '{json.dumps(SUMMARY)}'"
    ids = {name: airflow.run("twice", script) for name in FORGED}
    kept = "SELECT count(*) FROM xcom WHERE key = 'log_read' AND run_id = ANY(%s)"
    until(lambda: airflow.rows(kept, list(ids.values())) == [(len(ids),)])
    airflow.kill("triggerer")
    for name, run_id in ids.items():
        (child,) = airflow.children(run_id)
        (allocation,) = airflow.cluster.api(
            "GET", f"job/{child['ID']}/allocations", namespace="runs"
        ).json()
        ((try_id,),) = airflow.rows("SELECT id::text FROM task_instance WHERE run_id = %s", run_id)
        airflow.change(
            "UPDATE xcom SET value = %s WHERE key = 'log_read' AND run_id = %s",
            json.dumps(FORGED[name](try_id, allocation["ID"])), run_id,
        )  # fmt: skip
    for key in ("return_value", "skipmixin_key", "more"):
        airflow.change(
            "INSERT INTO xcom (dag_run_id, task_id, map_index, key, dag_id, run_id, value,"
            " timestamp, dag_result) SELECT dag_run_id, task_id, map_index, %s, dag_id, run_id, %s,"
            " timestamp, false FROM xcom WHERE key = 'log_read'",
            key, json.dumps({"forged": "x"}),
        )  # fmt: skip
    airflow.start_triggerer()
    followed = "is followed from here on"
    for run_id in ids.values():
        until(lambda run_id=run_id: followed in json.dumps(airflow.lines(run_id)))
    enough.touch()
    for run_id in ids.values():
        airflow.ended(run_id)
    return ids


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_progress_costs_lines_of_the_log_and_no_run(
    airflow: World, forged: dict[str, str], name: str
) -> None:
    run_id = forged[name]
    assert airflow.state(run_id) == ("success", 1), airflow.lines(run_id)
    assert len(airflow.children(run_id)) == 1
    kept = airflow.rows("SELECT key, value FROM xcom WHERE run_id = %s", run_id)
    assert kept == [("return_value", SUMMARY)]
    said = [event["event"] for event in airflow.lines(run_id)]
    if name != "the largest":
        assert {"line 1", "line 2"} <= set(said)
    assert not [event for event in said if "fault of this trigger" in event]
