"""What a night's manifest says beside those of the nights before: what is told, and what is wrong.

Everything here has a name, as databases.toml accepts it: ``public.notes`` is a table without its
proof, ``subscription:sub1`` what a dump cannot hold, ``rows:public.notes`` a table that shrank,
``history`` nights that it cannot be held against.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import dropwhile
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from backup.manifest import Manifest
from backup.openpgp.signature import NotTrusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from frame.failure import Failure

NIGHTS = 7  # before the newest
ENOUGH = 3  # of them, before they make a range or a median
SHARE = 0.1  # of its rows that a table may lose beyond its range before that is red

What = Literal["no proof", "gap", "no history", "fewer rows", "rows lost"]


class Notice(BaseModel):
    """Something to be known of a backup; ``name`` in ``accepted`` means that it is."""

    model_config = ConfigDict(frozen=True)

    what: What
    name: str
    why: str

    @property
    def red(self) -> bool:
        """Whether it is wrong, and not only to be accepted."""
        return self.what == "rows lost"

    def __str__(self) -> str:
        return f"{self.name}: {self.why}"


def notices(
    newest: Manifest, earlier: Sequence[Manifest | Failure], accepted: Iterable[str] = ()
) -> tuple[Notice, ...]:
    """Return what is to be told of ``newest`` and is not ``accepted``; ``earlier`` oldest first.

    In place of an earlier one may be why it cannot be read. A name in ``accepted`` may hold ``*``
    and ``?``.
    """
    patterns = tuple(accepted)
    nights = [night for night in earlier if isinstance(night, Manifest)]
    found = (
        *_unproved(newest), *_gaps(newest), *_unread(earlier), *_rows(newest, nights[-NIGHTS:])
    )  # fmt: skip
    return tuple(
        notice
        for notice in found
        if not any(fnmatchcase(notice.name, _literal(pattern)) for pattern in patterns)
    )


def _literal(pattern: str) -> str:
    """Return ``pattern`` with brackets, which are in the names of array types, as they are."""
    return pattern.replace("[", "[[]")


def _unproved(manifest: Manifest) -> Iterator[Notice]:
    for table in manifest.tables:
        if table.unproved:
            name = f"{table.schema_name}.{table.table}"
            yield Notice(what="no proof", name=name, why=f"without its proof, {table.unproved}")


def _gaps(manifest: Manifest) -> Iterator[Notice]:
    for gap in manifest.gaps:
        yield Notice(what="gap", name=f"{gap.kind}:{gap.name}", why=gap.why)


def _unread(earlier: Sequence[Manifest | Failure]) -> Iterator[Notice]:
    """Yield that nights cannot be read, such as with a new key; strangers' are another matter."""
    unread = [night for night in earlier if not isinstance(night, (Manifest, NotTrusted))]
    if unread:
        count = f"{len(unread)} of the {len(earlier)} backups before"
        why = f"{count} cannot be read: {unread[-1].message}"
        yield Notice(what="no history", name="history", why=why)


def _rows(newest: Manifest, earlier: Sequence[Manifest]) -> Iterator[Notice]:
    """Yield the tables that have fewer rows than their own past lets expect."""
    nights, now = [_counts(manifest) for manifest in earlier], _counts(newest)
    for name in sorted({name for night in nights for name in night}):
        if name not in now:
            kept_apart = any(_is_partition(name, manifest) for manifest in earlier)
            what, why = _gone(name, [*nights, now], is_partition=kept_apart)
        elif (rows := now[name]) is not None:
            past = [known for night in nights if (known := night.get(name)) is not None]
            what, why = _shrunk(past, rows) if past else (None, "")
        else:
            continue
        if what:
            yield Notice(what=what, name=f"rows:{name}", why=why)


def _gone(
    name: str, nights: Sequence[Mapping[str, int | None]], *, is_partition: bool
) -> tuple[What | None, str]:
    """Return what it is that the last of ``nights`` has not the table ``name``.

    Old partitions go, and what came the same night with as many rows has perhaps its place.
    """
    last = max(number for number, night in enumerate(nights) if name in night)
    had = next((rows for night in reversed(nights) if (rows := night.get(name)) is not None), 0)
    if not had:
        return None, ""
    new = nights[last + 1].keys() - nights[last].keys()
    followed = any((nights[last + 1][each] or 0) >= (1 - SHARE) * had for each in new)
    lasting = sum(bool(night.get(name)) for night in nights) >= ENOUGH
    lost = lasting and not is_partition and not followed
    return "rows lost" if lost else "fewer rows", f"is gone, it had {had} rows"


def _is_partition(name: str, manifest: Manifest) -> bool:
    return any(
        each.kind == "TABLE ATTACH" and f"{each.schema_name}.{each.name}" == name
        for each in manifest.objects
    )


def _shrunk(past: Sequence[int], now: int) -> tuple[What | None, str]:
    """Return what became of a table that had so many rows on nights before, oldest first."""
    if not now:
        # That it is empty is told as long as the rows are in sight, and not only the first night.
        filled = list(dropwhile(lambda rows: not rows, reversed(past)))
        if filled and 0 not in filled:
            return "rows lost", f"has no rows, it had {filled[0]}"
        return None, ""
    lost = past[-1] - now
    if len(past) < ENOUGH or now >= min(past) or lost <= max(past) - min(past):
        return None, ""
    why = f"has {now} rows, it had {past[-1]}, and {min(past)} to {max(past)} on nights before"
    return ("rows lost" if lost > SHARE * past[-1] else "fewer rows"), why


def _counts(manifest: Manifest) -> dict[str, int | None]:
    return {f"{table.schema_name}.{table.table}": table.rows for table in manifest.tables}
