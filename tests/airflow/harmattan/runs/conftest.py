"""One Nomad for a file of tests, and for the trigger's an Airflow beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.airflow.harmattan.runs import cluster, world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.airflow.harmattan.runs.cluster import Cluster
    from tests.airflow.harmattan.runs.world import World


@pytest.fixture(scope="module")
def nomad_agent(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A Nomad with the job `script` in its namespace `runs`.

    A module that says so (SEVERAL) has one of three servers.
    """
    if os.geteuid() != 0:
        pytest.fail("Nomad's client needs root: run this test as root")
    several = getattr(request.module, "SEVERAL", False)
    start = cluster.running_several if several else cluster.running
    with start(tmp_path_factory.mktemp("nomad")) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(
    nomad_agent: Cluster,
    metadata_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """An Airflow whose tasks run at that Nomad."""
    home = tmp_path_factory.mktemp("airflow")
    with world.running(home, nomad_agent, metadata_database()) as running:
        yield running
