"""What a run may take of the source."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from frame.failure import Failure
from ingest.errors import ContractError
from ingest.limits import Hours, Throttle

if TYPE_CHECKING:
    from tests.ingest.world import World


@pytest.mark.parametrize(
    ("begin", "end", "inside", "outside"),
    [(9, 17, (9, 12), (8, 17)), (22, 6, (22, 23, 0, 5), (6, 12, 21)), (7, 7, (), (7, 8))],
)
def test_hours_may_go_over_midnight(
    begin: int, end: int, inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    hours = Hours(time(begin), time(end))
    assert all(hours.have(time(hour)) for hour in inside)
    assert not any(hours.have(time(hour)) for hour in outside)


def test_outside_of_its_hours_nothing_is_read(world: World) -> None:
    world.at_source("CREATE TABLE one (id int)")
    now = datetime.now(UTC)
    later, last = (f"{now + timedelta(hours=hours):%H:%M}" for hours in (2, 3))
    head = f"limits: {{hours: '{later}-{last}'}}\n"
    with pytest.raises(Failure, match=rf"source hr: expected to read in the hours {later}-{last}"):
        world.run(head=head)
    assert len(world.run(head=f"limits: {{hours: '{now:%H:%M}-{later}', jobs: 1}}\n").loaded) == 1


def test_all_sessions_together_keep_to_the_rate(world: World) -> None:
    throttle, began = Throttle(10_000), monotonic()
    for _ in range(4):
        throttle.let_by(1000)
    assert monotonic() - began >= 0.4
    world.at_source("CREATE TABLE one AS SELECT generate_series(1, 4000) AS id")
    began = monotonic()
    world.run(head="limits: {rate: 80kB}\n")  # 40 kB in binary
    assert monotonic() - began >= 0.5


def test_no_more_sessions_read_than_the_file_allows(world: World) -> None:
    for place in range(6):
        world.at_source(f"CREATE TABLE t{place} AS SELECT generate_series(1, 2000) AS id")
    open_ = set()

    def count(_table: str, _size: int) -> None:
        ((sessions,),) = world.source_rows(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE usename = 'ingest_reader' AND datname = current_database()"
        )
        open_.add(sessions)

    assert len(world.run(head="limits: {jobs: 2}\n", progress=count).loaded) == 6
    assert max(open_) == 2


@pytest.mark.parametrize(
    "limits",
    ["rate: 20 MB/s", "rate: 100B", "hours: 6-22", "jobs: 0", "jobs: 65", "lock_wait: long",
     "speed: 1MB"],
)  # fmt: skip
def test_what_is_no_limit_is_told_with_its_line(world: World, limits: str) -> None:
    with pytest.raises(ContractError, match=rf"hr\.yaml:1: limits\.{limits.partition(':')[0]}: "):
        world.pipeline(head=f"limits: {{{limits}}}\n")
