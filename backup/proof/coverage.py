"""Whether every database of every server is backed up, lately, whole, and proved to restore."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

from backup.bucket.lifecycle import DAILY_DAYS, MONTHLY_DAYS
from backup.manifest import Manifest
from backup.openpgp.signature import NotTrusted
from backup.proof.history import ENOUGH, NIGHTS, Notice, notices
from backup.proof.report import AHEAD, last_results
from backup.proof.survey import Found
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from backup.bucket.layout import Backup
    from backup.openpgp.expiry import KeyState
    from backup.proof.report import DrillReport, DrillResult
    from backup.registry import Entry, Registry, Server

# A daily backup and two hours for it to run late; a monthly drill and three days.
FRESH = timedelta(hours=26)
DRILLED = timedelta(days=34)
SHRUNK = 0.5  # of the median size of the nights before
MONTHLY = timedelta(days=33)  # the longest month, and two days
RULES_LATE = 1  # days by which B2 may count otherwise
SETTLED = timedelta(days=2)  # after which the first backup of something has a copy

State = Literal[
    "uncovered", "no backup", "stale", "from the future", "shrunk", "not trusted",
    "of another server", "hidden early", "no monthly copy", "never drilled", "drill overdue",
    "drill failed", "not on its server", "server does not answer", "key expires soon",
    "key does not serve", "rows lost",
    "recovery key missing", "no recovery key pinned", "rules not in place",
    "object lock different", "copy not whole",
]  # fmt: skip


@dataclass(frozen=True)
class Kept:
    """What is in the bucket of one entry, oldest first, and the newest one's manifest.

    ``copies`` are the monthly ones, which are among ``backups`` too. In place of the manifest is
    the fault of it, or of the newest copy's; in ``earlier``, of the nights before, that of each.
    """

    backups: Sequence[Backup] = ()
    copies: Sequence[Backup] = ()
    manifest: Manifest | Failure | None = None
    earlier: Sequence[Manifest | Failure] = ()

    @property
    def nights(self) -> list[Manifest]:
        """The manifests of the nights before that can be read and are trusted, oldest first."""
        return [night for night in self.earlier if isinstance(night, Manifest)]

    @property
    def strangers(self) -> list[NotTrusted]:
        """Why backups of the nights before are not trusted: with enough of them, nothing shrank."""
        return [night for night in self.earlier if isinstance(night, NotTrusted)]


class Row(BaseModel):
    """One thing and all that is wrong with its backups; nothing is, if ``states`` is empty.

    ``notices`` are to be accepted, ``warnings`` what the dump's programs said.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    server: str | None = None
    states: tuple[State, ...] = ()
    detail: str | None = None
    backup_id: str | None = None
    size: int | None = None
    age_seconds: float | None = None
    drilled: AwareDatetime | None = None
    notices: tuple[Notice, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return not self.states


def judge(
    registry: Registry,
    servers: Mapping[str, Found | Failure],
    bucket: Mapping[str, Kept],
    drills: Sequence[DrillReport],
    now: datetime,
) -> list[Row]:
    """Return a row for all that is registered, and for all that should be.

    ``servers`` and ``bucket`` are by the registry's names, ``drills`` oldest first.
    """
    rows = []
    for server in registry.server:
        found = servers[server.name]
        if isinstance(found, Failure):
            rows.append(
                Row(
                    name=server.name, server=server.name,
                    states=("server does not answer",), detail=found.message,
                )
            )  # fmt: skip
        else:
            rows += _uncovered(registry, server, servers)
    there = {database.name: _is_there(servers[database.server], database.called)
             for database in registry.database}  # fmt: skip
    drilled = last_results(drills, now)
    where = {database.name: database.server for database in registry.database}
    where |= {server.globals.name: server.name for server in registry.server}
    for entry in registry.entries:
        answer = servers.get(where.get(entry.name, ""))
        row = _judge_one(entry, bucket[entry.name], answer, drilled.get(entry.name), now)
        if lacks_recovery(bucket[entry.name].manifest, registry.recovery_key):
            row = row.model_copy(update={"states": (*row.states, "recovery key missing")})
        states = row.states if there.get(entry.name, True) else ("not on its server", *row.states)
        rows.append(row.model_copy(update={"server": where.get(entry.name), "states": states}))
    return rows


def lacks_recovery(manifest: Manifest | Failure | None, recovery: str | None) -> bool:
    """Tell whether the pinned ``recovery`` key could not open what ``manifest`` tells of."""
    return (
        isinstance(manifest, Manifest)
        and recovery is not None
        and recovery not in manifest.recipients
    )


def _is_there(found: Found | Failure, name: str) -> bool:
    return isinstance(found, Failure) or name in found.databases


def _uncovered(
    registry: Registry, server: Server, servers: Mapping[str, Found | Failure]
) -> Iterable[Row]:
    """Yield the databases of ``server`` that nothing backs up, under the first of its names."""
    found = servers[server.name]
    assert isinstance(found, Found)  # noqa: S101 - the caller has looked
    same = [
        other
        for other in registry.server
        if isinstance(known := servers[other.name], Found) and known.identity == found.identity
    ]
    if same[0] is not server:
        return
    names = {other.name for other in same}
    covered = {database.called for database in registry.database if database.server in names}
    covered |= {name for other in same for name in other.without}
    # Of a copy that went its own way, too: a promoted replica keeps the identity.
    databases: frozenset[str] = frozenset()
    for other in same:
        known = servers[other.name]
        databases |= known.databases if isinstance(known, Found) else frozenset()
    for name in sorted(databases - covered):
        yield Row(name=name, server=server.name, states=("uncovered",))


def _judge_one(
    entry: Entry,
    kept: Kept,
    server: Found | Failure | None,
    drilled: tuple[datetime, DrillResult] | None,
    now: datetime,
) -> Row:
    row = Row(name=entry.name)
    states: list[State] = ["no backup"]
    if kept.backups:
        newest = kept.backups[-1]
        states = _judge_backups(kept, server, now)
        row = row.model_copy(
            update={
                "backup_id": newest.id,
                "size": newest.size,
                "age_seconds": newest.age_seconds(now),
                "detail": "; ".join(_faults(kept)) or None,
            }
        )
    if isinstance(kept.manifest, Manifest):
        told = notices(kept.manifest, kept.earlier, entry.accepted)
        lost = [str(notice) for notice in told if notice.red]
        if lost:
            states.append("rows lost")
        row = row.model_copy(
            update={
                "detail": "; ".join((*_faults(kept), *lost)) or None,
                "notices": tuple(notice for notice in told if not notice.red),
                "warnings": kept.manifest.warnings,
            }
        )
    if drilled is None:
        states.append("never drilled")
    else:
        when, last = drilled
        row = row.model_copy(update={"drilled": when})
        if last.verdict != "equal":
            states.append("drill failed")
        if now - when > DRILLED:
            states.append("drill overdue")
    return row.model_copy(update={"states": tuple(states)})


def _faults(kept: Kept) -> list[str]:
    """Return why a backup cannot be trusted, of the newest first."""
    newest = [kept.manifest.message] if isinstance(kept.manifest, Failure) else []
    return newest + [stranger.message for stranger in kept.strangers[-1:]]


def _judge_backups(kept: Kept, server: Found | Failure | None, now: datetime) -> list[State]:
    states: list[State] = []
    newest = kept.backups[-1]
    if now - newest.started > FRESH:
        states.append("stale")
    said = kept.manifest.started if isinstance(kept.manifest, Manifest) else newest.started
    if max(newest.started - now, said - newest.started) > AHEAD:  # than B2's clock
        states.append("from the future")
    earlier = [night.dump.size for night in kept.nights[-NIGHTS:]]
    if len(earlier) >= ENOUGH and newest.size < SHRUNK * statistics.median(earlier):
        states.append("shrunk")
    if isinstance(kept.manifest, Failure) or kept.strangers:
        states.append("not trusted")
    if isinstance(kept.manifest, Manifest) and kept.manifest.source and isinstance(server, Found):
        identity = kept.manifest.source.system_identifier
        if identity not in (None, server.identity):
            states.append("of another server")
    if _hidden_early(kept):
        states.append("hidden early")
    settled = now - kept.backups[0].started > SETTLED
    if settled and not any(now - copy.started < MONTHLY for copy in kept.copies):
        states.append("no monthly copy")
    return states


def _hidden_early(kept: Kept) -> bool:
    """Tell whether something was hidden that the bucket's rules would have left alone.

    Nobody here does that: it is somebody with the writer's key, and B2 deletes it in a while.
    """
    made = [backup for backup in kept.backups if backup not in kept.copies]
    return any(
        stood is not None and stood < days - RULES_LATE
        for backups, (days, _) in ((made, DAILY_DAYS), (kept.copies, MONTHLY_DAYS))
        for stood in (backup.stood() for backup in backups)
    )


def judge_keys(keys: Iterable[KeyState]) -> Iterator[Row]:
    """Yield a row for each key that is not well."""
    for key in keys:
        if not key.well:
            state: State = (
                "key expires soon" if key.state == "expires soon" else "key does not serve"
            )
            detail = f"{key.fingerprint}, {key.state} ({key.expires or 'never expires'})"
            yield Row(name=f"key that {key.use}", states=(state,), detail=detail)
