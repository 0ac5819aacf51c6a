from __future__ import annotations

import pytest

from backup.kinds.database import NOT_DUMPED
from backup.manifest import Gap, Manifest, SchemaObject, StoredDump, TableContents
from backup.openpgp.signature import NotTrusted
from backup.proof.history import notices
from frame.failure import Failure
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


def gone(*past: dict[str, int | None], now: dict[str, int | None]) -> list[tuple[str, str]]:
    told = notices(manifest(now), [manifest(rows) for rows in past])
    return [(each.what, each.name.removeprefix("rows:public.")) for each in told]


def test_a_table_that_is_gone_is_told_as_long_as_its_rows_are_in_sight() -> None:
    full: dict[str, int | None] = {"t": 5}
    (told,) = notices(manifest({}), [manifest(full)])
    assert str(told) == "rows:public.t: is gone, it had 5 rows"
    assert gone(full, {}, {}, now={}) == [("fewer rows", "t")]
    assert gone(full, full, full, {}, now={}) == [("rows lost", "t")]
    assert gone(full, full, full, {"t": None}, {}, now={}) == [("rows lost", "t")]
    assert gone({"t": 0}, {"t": 0}, {"t": 0}, now={}) == []
    assert gone(full, *[{}] * 7, now={}) == []


def test_a_table_that_was_renamed_or_is_an_old_partition_is_no_alarm() -> None:
    full: dict[str, int | None] = {"t": 50, "u": 50}
    assert gone(full, full, full, now={"t": 50, "v": 49}) == [("fewer rows", "u")]
    assert gone(full, full, full, {"t": 50, "v": 49}, now={"t": 50, "v": 70}) == [
        ("fewer rows", "u")
    ]
    assert gone(full, full, full, now={"t": 50, "v": 3}) == [("rows lost", "u")]
    attached = SchemaObject(kind="TABLE ATTACH", schema_name="public", name="u", digest="")
    nights = [manifest(full).model_copy(update={"objects": (attached,)})] * 3
    (told,) = notices(manifest({"t": 50}), nights)
    assert told.what == "fewer rows"


def test_a_name_with_brackets_is_accepted_as_it_is() -> None:
    gap = Gap(kind="changed", name="function public.f(text[])", why="it was changed")
    told = manifest({}, gaps=(gap,))
    assert notices(told, [], ["changed:function public.f(text[])"]) == ()
    assert notices(told, [], ["changed:*"]) == ()
    assert len(notices(told, [], ["changed:function public.f(text)"])) == 1


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


def test_who_accepts_that_tables_shrink_does_not_accept_that_rows_are_not_in_the_dump() -> None:
    gap = Gap(kind=NOT_DUMPED, name="public.t", why="pg_dump wrote none of its rows")
    (told,) = notices(manifest({"t": 5}, (gap,)), [], ["rows:*", "public.*"])
    assert told.name == "rows not dumped:public.t"


def test_nights_that_cannot_be_read_are_told_and_those_of_strangers_left_to_others() -> None:
    earlier = [
        NotTrusted("it is not signed", hint="Find out who."),
        Failure("it cannot be opened", hint="Give a key."),
        manifest({"a": 5}),
    ]
    lost, unread = sorted(notices(manifest({"a": 0}), earlier), key=lambda each: not each.red)
    assert (lost.name, unread.name, unread.red) == ("rows:public.a", "history", False)
    assert unread.why == "1 of the 3 backups before cannot be read: it cannot be opened"
