"""Whatever is killed, whenever: never a false backup, never a lost one, the next run clean."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from backup.bucket.catalogue import open_catalogue
from backup.openpgp.crypt import private_key
from backup.restoration.unpack import verify
from tests.backup.conftest import add_megabytes, descendants, eventually, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backup.bucket.layout import Backup
    from tests.backup.conftest import House, OpenPgpKey

# Of the run itself and of each child; pg_dump's and the snapshot's sessions end with them.
VICTIMS = ("backup", "pg_dump", "zstd", "gpg")
LONGEST = 4.0  # seconds: what a run takes with these parts


@pytest.fixture
def busy(house: House) -> Iterator[House]:
    """The environment with a source of 24 MB, whose upload of five parts takes some seconds."""
    add_megabytes(house.source, 24)
    slow = {"operation": "upload_part", "kind": "delay", "seconds": 0.4, "count": 10_000}
    house.endpoint.set_faults(slow)
    yield house
    house.endpoint.set_faults()


def listed(house: House) -> list[Backup]:
    with open_catalogue(house.settings) as catalogue:
        return catalogue.backups("hr")


def kill_one(house: House, chance: random.Random) -> bool:
    """Start a run, kill one of its processes at a moment of chance; return whether it succeeded."""
    victim, moment = chance.choice(VICTIMS), chance.uniform(0.2, LONGEST)
    run = house.start("run", "hr")
    time.sleep(moment)
    children = descendants(run.pid)
    for pid in [run.pid] if victim == "backup" else children:
        if pid == run.pid or program(pid) == victim:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    run.communicate(timeout=60)
    eventually(lambda: not any(program(child) in VICTIMS for child in children), 30)
    return run.returncode == 0


def rounds(house: House, key: OpenPgpKey, seed: int, count: int) -> None:
    chance = random.Random(seed)
    good: list[Backup] = []
    for number in range(count):
        try:
            done = kill_one(house, chance)
            found = listed(house)
            assert found[: len(good)] == good, "an older backup is lost"
            # A run may be killed when its backup is made, and before it could say so.
            assert done <= len(found) - len(good) <= 1
            after = house.run("run", "hr")
            assert after.returncode == 0, after.stderr
            assert house.unfinished() == []
            good = listed(house)
            assert len(good) == len(found) + 1
        except BaseException as error:
            error.add_note(f"round {number}")
            raise
    house.read()
    house.secret("drill_key.asc", key.private)
    settings = house.settings
    with (
        private_key(settings.secret_path("drill_key.asc")) as ring,
        open_catalogue(settings) as catalogue,
    ):
        for backup in listed(house):
            verify(catalogue.store, catalogue.manifest(backup), ring)


def test_a_kill_at_any_moment_leaves_no_false_backup(
    busy: House, drill_key: OpenPgpKey, seed: int
) -> None:
    rounds(busy, drill_key, seed, 3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_fifty_kills_leave_no_false_backup(busy: House, drill_key: OpenPgpKey, seed: int) -> None:
    rounds(busy, drill_key, seed, 50)
