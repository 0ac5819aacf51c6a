from __future__ import annotations

import pytest

from backup.manifest import Gap, Manifest, StoredDump, TableContents
from backup.proof.history import notices
from tests.backup.examples import NOW


def manifest(rows: dict[str, int | None], gaps: tuple[Gap, ...] = (), why: str = "") -> Manifest:
    return Manifest(
        id="x", database="hr", started=NOW, finished=NOW, recipients=(), program_version="0",
        dump=StoredDump(name="x", file_id="x", size=1, sha256="0" * 64), gaps=gaps,
        tables=tuple(
            TableContents(schema_name="public", table=name, rows=count, unproved=why or None)
            for name, count in rows.items()
        ),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("past", "now", "what"),
    [
        ((5,), 0, "rows lost"),
        ((5, 5, 0), 0, "rows lost"),
        ((5, 0, 0, 0, 0, 0, 0), 0, "rows lost"),
        ((5, 0, 3), 0, None),
        ((0, 0), 0, None),
        ((), 0, None),
        ((1000, 1000, 1000), 500, "rows lost"),
        ((1000, 1000, 1000), 999, "fewer rows"),
        ((1000, 900, 1000), 950, None),
        ((1000, 960, 1000), 920, "fewer rows"),
        ((1000, 500, 1000), 450, "rows lost"),
        ((900, 500, 550), 450, None),
        ((1000, 500), 450, None),
        ((1000, 1100, 1200), 1300, None),
        ((1, 1000, 1000, 1000, 1000, 1000, 1000, 1000), 500, "rows lost"),
        ((5,), None, None),
    ],
)
def test_a_table_is_held_against_its_own_recent_past(
    past: tuple[int, ...], now: int | None, what: str | None
) -> None:
    told = notices(manifest({"t": now}), [manifest({"t": rows}) for rows in past])
    assert [(each.what, each.name) for each in told] == ([(what, "rows:public.t")] if what else [])
    assert not notices(manifest({"t": now}), [manifest({"t": rows}) for rows in past],
                       accepted=["rows:public.*"])  # fmt: skip


def test_a_table_that_is_gone_is_told_for_a_night() -> None:
    full, none = manifest({"t": 5}), manifest({})
    (told,) = notices(none, [full])
    assert (told.what, str(told)) == ("fewer rows", "rows:public.t: is gone, it had 5 rows")
    assert notices(none, [full, none]) == ()
    assert notices(none, [manifest({"t": 0})]) == ()


def test_what_is_not_proved_or_not_held_is_told_until_it_is_accepted() -> None:
    gap = Gap(kind="subscription", name="sub1", why="it is left out")
    newest = manifest({"notes": None, "t": 1}, (gap,), why="out of memory")
    told = notices(newest, [])
    assert [str(each) for each in told] == [
        "public.notes: without its proof, out of memory",
        "public.t: without its proof, out of memory",
        "subscription:sub1: it is left out",
    ]
    assert not any(each.red for each in told)
    accepted = ("public.notes", "subscription:sub1")
    assert [each.name for each in notices(newest, [], accepted)] == ["public.t"]
