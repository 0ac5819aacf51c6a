from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

import pytest

from scripts.deploy import platform
from scripts.local import ROOT

if TYPE_CHECKING:
    from types import ModuleType


@pytest.fixture(scope="module")
def settings() -> ModuleType:
    """The module as Airflow finds it, from a folder that is on the path in the image only."""
    path = ROOT / "airflow/config/airflow_local_settings.py"
    spec = importlib.util.spec_from_file_location("airflow_local_settings", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("bundles", "queue"),
    [
        ({"pipelines"}, "ingest"),
        ({"analysts"}, "analysts"),
        # Whatever cannot be placed goes to the pool with fewer rights.
        (set(), "analysts"),
        ({None}, "analysts"),
        ({""}, "analysts"),
        ({"unknown"}, "analysts"),
        ({"Pipelines"}, "analysts"),
        ({"ingest"}, "analysts"),
        # A file of one bundle that took over a name of the other's.
        ({"pipelines", "analysts"}, "analysts"),
        ({"pipelines", None}, "analysts"),
        ({"pipelines", "unknown"}, "analysts"),
    ],
)
def test_a_tasks_queue_follows_from_its_bundle(
    settings: ModuleType, bundles: set[str | None], queue: str
) -> None:
    assert settings._queue(bundles) == queue


def test_the_module_gives_airflow_its_hook_and_nothing_else(settings: ModuleType) -> None:
    assert settings.__all__ == ["task_instance_mutation_hook"]
    assert callable(settings.task_instance_mutation_hook)


def test_the_queues_are_those_of_the_workers(settings: ModuleType) -> None:
    given = {each.id: each.variables for each in platform()}
    queues = {each["queue"] for each in given.values() if "queue" in each}
    bundles = {each["bundle"] for each in given.values() if "bundle" in each}
    assert set(settings.QUEUES.values()) == queues
    assert set(settings.QUEUES) == bundles
    assert settings.OTHERWISE in queues
