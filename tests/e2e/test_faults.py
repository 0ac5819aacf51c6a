"""What Docker refuses is named for as long as it does; a deploy then ends well."""

from __future__ import annotations

import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from scripts.local.home import ADDRESS
from tests.scripts.health.running import FOREVER, ends_well, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.access import Access

MISSING = "harmattan/e2e-missing:0"
JOB = "e2e-fault"


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, check=True, timeout=60)
    return done.stdout.decode()


@pytest.fixture
def image() -> str:
    """An image that is there."""
    return docker("images", "--format", "{{.Repository}}:{{.Tag}}", "harmattan/redis").split()[0]


@pytest.fixture
def removed(platform: Access) -> Iterator[None]:
    """The job of the test, removed after it."""
    yield
    platform.nomad.job.deregister_job(JOB, purge=True)


def sleeping(image: str, **config: Any) -> dict[str, Any]:
    config = {"image": image, "force_pull": False, "entrypoint": ["sleep", "600"], **config}
    return {"Driver": "docker", "Config": config, "Resources": {"CPU": 20, "MemoryMB": 32}}


@pytest.mark.usefixtures("removed")
def test_an_image_that_is_missing(platform: Access, image: str) -> None:
    run(platform.nomad, JOB, "", ReschedulePolicy=FOREVER, task=sleeping(MISSING))
    try:
        ends_well(platform.nomad, JOB, lambda: docker("tag", image, MISSING), MISSING, seconds=120)
    finally:
        docker("rmi", "--force", MISSING)


@pytest.mark.usefixtures("removed")
def test_a_port_that_is_taken(platform: Access, image: str) -> None:
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        networks = [{"ReservedPorts": [{"Label": "port", "Value": port, "To": port}]}]
        task = sleeping(image, ports=["port"])
        run(platform.nomad, JOB, "", ReschedulePolicy=FOREVER, Networks=networks, task=task)
        ends_well(
            platform.nomad, JOB, taken.close, f"{port}", "address already in use", seconds=120
        )
