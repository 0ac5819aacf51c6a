"""What follows from a look for a restore: all findings at once, each with its way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup.postgres.names import listed
from backup.postgres.programs import VERSION_UNIT, major_of
from backup.restoration.finding import Finding
from backup.restoration.target import DEFAULT_TABLESPACE
from backup.scratch.directory import MORE_ROOM
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from backup.manifest import Manifest
    from backup.restoration.look import Existing, Facts, Server
    from backup.restoration.target import Wanted

WITHOUT_LOCALE = ("C", "POSIX")
ICU_SINCE, BUILTIN_SINCE = 15, 17  # major versions in which a database can have such a locale
# Owners that nothing has to be given to: none, and whoever owns the database.
NOBODY = {"", "pg_database_owner"}
OWN_SESSIONS = 2  # of a restore beside its jobs: one that holds the database, one that looks


def judge(manifest: Manifest, wanted: Wanted, facts: Facts, name: str) -> tuple[Finding, ...]:
    """Return what was found, in the order of the steps; ``name`` is the target database's."""
    findings = [*_key(facts), *_signature(manifest, facts), *_room(manifest, facts)]
    if facts.server is None:
        return tuple(findings)
    findings += _clients(manifest, facts)
    if isinstance(facts.server, Failure):
        findings.append(Finding("server", "blocks", facts.server.message, facts.server.hint))
        return tuple(findings)
    server = facts.server
    return (
        *findings,
        *_version(manifest, server),
        *_extensions(manifest, wanted, server),
        *_roles(manifest, wanted, server),
        *_rights(manifest, wanted, server, name),
        *_tablespaces(manifest, wanted, server),
        *_database(manifest, wanted, server, name),
        *_sessions(wanted, server),
    )


def _key(facts: Facts) -> Iterator[Finding]:
    if facts.closed:
        yield Finding("key", "blocks", *facts.closed)
    else:
        yield Finding("key", "good", "the private key opens it")


def _signature(manifest: Manifest, facts: Facts) -> Iterator[Finding]:
    if facts.signed:
        yield Finding("signature", "good", f"signed by {manifest.signer or 'a known key'}")
    else:
        yield Finding("signature", "note", "not checked, as you wish")


def _room(manifest: Manifest, facts: Facts) -> Iterator[Finding]:
    needed = manifest.plain_bytes
    how = "" if manifest.plain_size else " by the size of the database, a guess"
    said = f"{facts.free:,} bytes free on the scratch disk, the plain dump takes {needed:,}{how}"
    if facts.free >= needed:
        yield Finding("room", "good", said)
    else:
        yield Finding("room", "blocks", said, MORE_ROOM)


def _clients(manifest: Manifest, facts: Facts) -> Iterator[Finding]:
    made_by = major_of(manifest.pg_dump_version) or 0
    chosen = next((major for major in facts.clients if major >= made_by), None)
    if chosen is None:
        there = ", ".join(map(str, facts.clients)) or "none"
        yield Finding(
            "client", "blocks",
            f"the dump was made by pg_dump {manifest.pg_dump_version}, clients at hand: {there}",
            f"Install postgresql-client-{made_by}, or set BACKUP_PG_ROOT.",
        )  # fmt: skip
    else:
        yield Finding(
            "client", "good", f"pg_restore {chosen} for a dump by {manifest.pg_dump_version}"
        )


def _version(manifest: Manifest, server: Server) -> Iterator[Finding]:
    source = manifest.server.server_version // VERSION_UNIT
    made_by = major_of(manifest.pg_dump_version) or source
    said = f"version {server.major}, the source was {source}"
    if server.major < max(source, made_by):
        newer = max(source, made_by)
        yield Finding("server", "note", f"{said}: what came with {newer} cannot be restored")
    else:
        yield Finding("server", "good", said)


def _extensions(manifest: Manifest, wanted: Wanted, server: Server) -> Iterator[Finding]:
    missing = [name for name in manifest.extensions if name not in server.extensions]
    if missing:
        yield Finding(
            "extensions", "note" if wanted.keep_going or wanted.tables else "blocks",
            f"the server has no {listed(missing)}",
            "Install their packages on the server, or give --keep-going to restore the rest.",
        )  # fmt: skip
    there = server.database.extensions if server.database else frozenset()
    forbidden = [name for name in manifest.extensions if name in server.for_superusers - there]
    if forbidden and not (server.superuser or wanted.tables):
        yield Finding(
            "extensions", "note" if wanted.keep_going else "blocks",
            f"{server.user} may not create {listed(forbidden)}",
            "Let a superuser create them in the target, or give --keep-going to restore the rest.",
        )  # fmt: skip
    others = [
        f"{name} {version}"
        for name, version in manifest.extensions.items()
        if name in server.extensions and version not in server.extensions[name]
    ]
    if others:
        yield Finding("extensions", "note", f"{listed(others)} comes in the server's own version")
    if not (missing or others or forbidden):
        yield Finding("extensions", "good", listed(manifest.extensions) or "none needed")


def _roles(manifest: Manifest, wanted: Wanted, server: Server) -> Iterator[Finding]:
    if wanted.owners == "skip":
        yield Finding("roles", "good", f"all is to belong to {server.user}")
        return
    missing = [role for role in manifest.server.roles if role not in server.roles]
    if not missing:
        yield Finding("roles", "good", f"{len(manifest.server.roles)} needed, all there")
    elif not wanted.create_roles:
        yield Finding(
            "roles", "blocks", f"the server has no role {listed(missing)}",
            "Give --create-roles, or --owners skip to own everything yourself.",
        )  # fmt: skip
    elif not (server.superuser or server.createrole):
        yield Finding(
            "roles", "blocks", f"{server.user} may not create {listed(missing)}",
            "Give a login with CREATEROLE, or --owners skip to own everything yourself.",
        )  # fmt: skip
    else:
        yield Finding("roles", "note", f"to be made, without a login: {listed(missing)}")


def _rights(manifest: Manifest, wanted: Wanted, server: Server, name: str) -> Iterator[Finding]:
    others = sorted(server.databases - {name} if wanted.everything else server.databases)
    if server.superuser and others:
        yield Finding(
            "rights", "note",
            f"code of the backup, such as a CHECK's function, runs as the superuser {server.user}, "
            f"beside {listed(others)}",
            "If its owners are not to be trusted with these, use a server of its own, or a login "
            "that is no superuser.",
        )  # fmt: skip
    owners = {each.owner for each in manifest.objects} - server.receivers - NOBODY
    if owners and wanted.owners == "keep" and not server.superuser:
        yield Finding(
            "rights", "note" if wanted.keep_going or wanted.tables else "blocks",
            f"{server.user} can give nothing to {listed(sorted(owners))}, who own some of it",
            "Give a superuser's login, or --owners skip to own everything yourself.",
        )  # fmt: skip


def _tablespaces(manifest: Manifest, wanted: Wanted, server: Server) -> Iterator[Finding]:
    source = manifest.server
    used = dict.fromkeys((source.tablespace, *source.tablespaces))
    used.pop(DEFAULT_TABLESPACE, None)
    missing = [name for name in used if name not in server.tablespaces]
    if wanted.tablespaces == "skip" and used:
        yield Finding("tablespaces", "note", "everything goes to the database's default")
    elif missing:
        yield Finding(
            "tablespaces", "blocks", f"the server has no tablespace {listed(missing)}",
            "Create them, or give --no-tablespaces.",
        )  # fmt: skip
    else:
        yield Finding("tablespaces", "good", listed(used) or "none needed")


def _database(manifest: Manifest, wanted: Wanted, server: Server, name: str) -> Iterator[Finding]:
    there = server.database
    if there is not None:
        yield from _contents(manifest, wanted, there, name)
        yield from _likeness(manifest, there)
        if wanted.everything and not (there.mine or server.superuser):
            said = f"{server.user} does not own {name}: others can connect before it is whole"
            yield Finding("rights", "note", said)
    elif not wanted.create:
        yield Finding(
            "database", "blocks", f"there is no database {name}",
            "Give --create, or create it, TEMPLATE template0.",
        )  # fmt: skip
    elif not (server.superuser or server.createdb):
        yield Finding(
            "database", "blocks", f"{server.user} may not create a database",
            "Give a login with CREATEDB, or have it created and restore without --create.",
        )  # fmt: skip
    else:
        yield from _locale(manifest, wanted, server)


def _contents(manifest: Manifest, wanted: Wanted, there: Existing, name: str) -> Iterator[Finding]:
    met, hint = list(there.contents), "or give --beside."
    if not wanted.everything:
        landing = [
            f"{wanted.schema or table.schema_name}.{table.table}"
            for table in manifest.tables
            if not wanted.tables or f"{table.schema_name}.{table.table}" in wanted.tables
            if f"{table.schema_name}.{table.table}" not in wanted.excluded
        ]
        met = [f"relation {table}" for table in landing if table in there.relations]
        hint = "or rename what is there; tables of --table also go --into-schema."
    if met:
        yield Finding(
            "database", "blocks", f"target database {name} is not empty: it has {listed(met)}",
            f"Restore into a new database, which --create makes, {hint}",
        )  # fmt: skip
    else:
        yield Finding("database", "good", f"{name} has nothing that is in the way")


def _likeness(manifest: Manifest, there: Existing) -> Iterator[Finding]:
    source = manifest.server
    for what, has, had in (
        ("encoding", there.encoding, source.encoding),
        ("collation", there.collate, source.collate),
        ("character type", there.ctype, source.ctype),
        ("provider of the locale", there.provider, source.provider),
    ):
        if has != had:
            yield Finding("locale", "note", f"{what} {has}, the source had {had}")


def _locale(manifest: Manifest, wanted: Wanted, server: Server) -> Iterator[Finding]:
    source = manifest.server
    hint = "Create the database with a locale that is there, and restore without --create."
    if not server.knows_encoding:
        yield Finding("locale", "blocks", f"no encoding {source.encoding} on this server", hint)
    elif source.provider == "i" and (server.major < ICU_SINCE or not server.icu):
        yield Finding("locale", "blocks", f"no ICU here for the locale {source.locale}", hint)
    elif source.provider == "b" and server.major < BUILTIN_SINCE:
        said = f"no built-in locale {source.locale} before version {BUILTIN_SINCE}"
        yield Finding("locale", "blocks", said, hint)
    elif missing := _unknown(server, (source.collate, source.ctype)):
        said = f"the server knows no locale {listed(missing)}"
        if wanted.any_locale:
            yield Finding("locale", "note", f"{said}: a plain one takes its place")
            return
        yield Finding(
            "locale", "blocks", said,
            "Install it in the server's system, let a superuser run SELECT "
            "pg_import_system_collations('pg_catalog') in the database postgres, and look again. "
            f"Or: {hint}",
        )  # fmt: skip
    else:
        called = source.locale or source.collate
        yield Finding("locale", "good", f"{source.encoding}, {called}")


def _unknown(server: Server, wanted: Iterable[str]) -> list[str]:
    """Return the C library's locales that the server lacks; it spells utf8 in more than one way."""

    def plain(locale: str) -> str:
        return locale.lower().replace("-", "")

    known = {plain(locale) for locale in (*server.locales, *WITHOUT_LOCALE)}
    return [locale for locale in dict.fromkeys(wanted) if plain(locale) not in known]


def _sessions(wanted: Wanted, server: Server) -> Iterator[Finding]:
    needed = wanted.jobs + OWN_SESSIONS
    if server.free_sessions < needed:
        yield Finding(
            "connections", "blocks",
            f"{server.free_sessions} are free on the server, {needed} are needed",
            "Give fewer --jobs, or wait until others are gone.",
        )  # fmt: skip
    else:
        yield Finding("connections", "good", f"{server.free_sessions} free, {needed} needed")
    if server.database and server.database.others and wanted.everything:
        said = f"{server.database.others} sessions of others are in the target database"
        yield Finding("connections", "note", said)
