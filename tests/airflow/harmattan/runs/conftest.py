"""One Nomad for all files of this folder, and an Airflow whose tasks run there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.airflow.harmattan.runs import cluster, world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.airflow.harmattan.runs.cluster import Cluster
    from tests.airflow.harmattan.runs.world import World


@pytest.fixture(scope="package")
def nomad_agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Nomad of three servers with the job `script` in its namespace `runs`."""
    if os.geteuid() != 0:
        pytest.fail("Nomad's client needs root: run this test as root")
    with cluster.running(tmp_path_factory.mktemp("nomad")) as running:
        yield running


@pytest.fixture(scope="package")
def airflow(
    nomad_agent: Cluster,
    metadata_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[World]:
    """An Airflow whose tasks run at that Nomad."""
    home = tmp_path_factory.mktemp("airflow")
    with world.running(home, nomad_agent, metadata_database()) as running:
        yield running
