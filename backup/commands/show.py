"""Tell what backups there are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter
from rich.markup import escape

from backup.bucket.catalogue import open_catalogue
from backup.bucket.layout import Backup
from backup.commands.app import (
    Identifier,
    Scope,
    Timeout,
    Unsigned,
    app,
    find_backup,
    known_names,
    out,
    read_settings,
)
from backup.deadline import limited
from backup.openpgp.signature import NotTrusted
from backup.proof.report import human_age, human_bytes
from frame.failure import Failure
from frame.output import AsJson, print_json, print_json_text, table

if TYPE_CHECKING:
    from backup.manifest import Manifest


@app.command("list")
@limited
def list_backups(
    names: Scope = None,
    newest: Annotated[bool, typer.Option("--newest", help="Only the newest of each.")] = False,
    timeout: Timeout = "2m",
    as_json: AsJson = False,
) -> None:
    """List complete backups, oldest first.

    Also of what left the registry. Needs no right to read objects; with it, and a key that opens
    manifests, the state of each is shown: whether it is trusted, and what its manifest tells of.
    """
    settings = read_settings()
    with open_catalogue(settings) as catalogue:
        kept = [catalogue.backups(name) for name in known_names(catalogue, settings, names)]
        found = [backup for backups in kept for backup in (backups[-1:] if newest else backups)]
        opened = catalogue.manifests(found) if catalogue.opens_manifests() else []
    states: list[str | None] = [_state(manifest) for manifest in opened]
    states += [None] * (len(found) - len(states))
    if as_json:
        dumped = TypeAdapter(list[Backup]).dump_python(found, mode="json")
        print_json([each | {"state": state} for each, state in zip(dumped, states, strict=True)])
        return
    listed = table("name", "id", ">size", ">age", *(["state"] if opened else []))
    now = datetime.now(UTC)
    for backup, state in zip(found, states, strict=True):
        size, age = human_bytes(backup.size), human_age(backup.age_seconds(now))
        told = [escape(state)] if state else []
        listed.add_row(backup.database, backup.id, size, age, *told)
    out.print(listed)


def _state(manifest: Manifest | Failure) -> str:
    """Return in a few words whether a backup is trusted, and what its manifest tells of."""
    if isinstance(manifest, NotTrusted):
        return f"not trusted: {manifest.message}"
    if isinstance(manifest, Failure):
        return f"not opened: {manifest.message}"
    counts = {
        "without proof": sum(1 for each in manifest.tables if each.unproved),
        "not held": len(manifest.gaps),
        "warnings": len(manifest.warnings),
    }
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "well"


@app.command()
@limited
def show(
    identifier: Identifier,
    key_file: Annotated[
        Path | None,
        typer.Option(
            help="Private key to decrypt with (default: drill_key.asc or manifest_key.asc)."
        ),
    ] = None,
    unsigned: Unsigned = False,
    timeout: Timeout = "2m",
    as_json: AsJson = False,
) -> None:
    """Show what one backup holds.

    The signature of its manifest is checked first. As JSON it is the manifest itself.
    """
    settings = read_settings()
    with open_catalogue(settings, key_file=key_file, unsigned=unsigned) as catalogue:
        manifest = find_backup(catalogue, settings, [], identifier).manifest
    if as_json:
        print_json_text(manifest.to_json().decode())
        return
    source = manifest.source
    facts = {
        "of": manifest.database,
        "taken": f"{manifest.started:%Y-%m-%d %H:%M} UTC, in {_seconds(manifest):.0f} s",
        "in the bucket": f"{human_bytes(manifest.dump.size)}, {manifest.dump.name}",
        "on the server": human_bytes(source.size) if source else "-",
        "server, pg_dump": f"{source.server_version}, {manifest.pg_dump_version}"
        if source
        else "-",
        "extensions": ", ".join(f"{name} {of}" for name, of in manifest.extensions.items()) or "-",
        "objects": f"{len(manifest.objects)} with a fingerprint" if manifest.objects else "-",
        "encrypted to": ", ".join(manifest.recipients),
        "signed by": manifest.signer or "nobody",
    }
    about = table("", "")
    about.show_header = False
    for name, fact in facts.items():
        about.add_row(name, escape(fact))
    out.print(about)
    if manifest.tables:
        tables = table("table", ">rows", "digest")
        for each in manifest.tables:
            name = escape(f"{each.schema_name}.{each.table}")
            rows = "-" if each.rows is None else f"{each.rows:,}"
            tables.add_row(name, rows, each.unproved or each.digest or "counted only")
        out.print(tables)
    for gap in manifest.gaps:
        out.print(f"not in the dump, {gap.kind} {gap.name}: {gap.why}", markup=False)
    for warning in manifest.warnings:
        out.print(f"warning: {warning}", markup=False)


def _seconds(manifest: Manifest) -> float:
    return (manifest.finished - manifest.started).total_seconds()
