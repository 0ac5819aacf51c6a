"""The command line's frame: its help, the options that verbs share, what they all begin with."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from backup.catalogue import Catalogue
from backup.console import App
from backup.errors import WrongUse
from backup.registry import load_registry
from backup.settings import B2_KEY, Settings
from backup.signature import Signers
from backup.store import open_store

if TYPE_CHECKING:
    from backup.manifest import Manifest

HELP = """Encrypted off-site backups of PostgreSQL databases, and the proof that they restore.

A server's roles, and the state of Nomad and Vault, are backed up beside them; the registry
(databases.toml) names it all.

Exit codes: 0 done, 1 failed, 2 wrong use or wrong settings (nothing was started).

\b
Settings, from the environment:
  BACKUP_SECRETS_DIR   directory of the secret files (see below)
  BACKUP_B2_REALM      "production" or the URL of a B2 endpoint
  BACKUP_BUCKET        name of the bucket
  BACKUP_PREFIX        environment, the first folder in the bucket, such as local
  BACKUP_SCRATCH       directory for restores and drills (default: temporary)
  BACKUP_PG_BIN        PostgreSQL's programs (default: /usr/lib/postgresql/15/bin)
  BACKUP_REGISTRY      list of databases (default: databases.toml in the package)
  BACKUP_PART_MINIMUM  smallest part of an upload (default: 16MiB)
  BACKUP_BANDWIDTH     most bytes a second of an upload, such as 20MB
  BACKUP_NOMAD_ADDRESS, BACKUP_VAULT_ADDRESS   URLs, for the snapshots of them
  BACKUP_DIGEST_JOBS   sessions that digest tables (default: 1)

\b
Secret files, each needed by some verbs only:
  database_uri     run: the source, postgresql://user:password@host/database
  recipients.asc   run, keys, coverage: public keys, armoured; the dump is
                   encrypted to all
  signing_key.asc  run, keys: the private key that signs manifests, armoured
  b2.json          all but keys, sweep: {"key_id": "...", "key": "..."}
  signers.json     show, verify, restore, drill, coverage, monthly:
                   {"hr": "public key", ...}
  drill_key.asc    verify, restore, drill: a private key, no passphrase
  b2_results.json  drill, if b2.json cannot write: for <prefix>/drills/
  servers.json     coverage: {"postgres": "postgresql://...", ...}
  alerts.json      optional: {"webhook": URL, "ping": URL}. What drill,
                   coverage and monthly find is posted; <ping>/<name> hears
                   of each run, drill and coverage that went well
  nomad_token, vault_token   run, for the snapshots of them
"""

app = App(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks print local variables
)
out = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
Timeout = Annotated[str, typer.Option(help="End the run after this long: 90s, 15m, 4h.")]
Jobs = Annotated[int, typer.Option(min=1, help="Parallel jobs of pg_restore.")]
Scope = Annotated[list[str] | None, typer.Argument(help="Databases; all if none is named.")]
KeyFile = Annotated[
    Path | None, typer.Option(help="Private key to decrypt with (default: drill_key.asc).")
]
Unsigned = Annotated[
    bool, typer.Option("--unsigned", help="Take a manifest whose signature cannot be checked.")
]


def read_settings() -> Settings:
    """Return the settings of this process's environment. Raises WrongUse."""
    return Settings.from_environment(os.environ)


def print_json(value: object) -> None:
    """Print ``value`` for programs."""
    typer.echo(json.dumps(value, indent=2))


def parse_moment(text: str | None) -> datetime | None:
    """Return the moment that an option tells, UTC if it names no zone. Raises WrongUse."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise WrongUse(
            f"time {text!r} is not understood",
            hint="Give it as 2026-11-21, 2026-11-21T06:00 or with a zone; without one it is UTC.",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def find_manifest(
    settings: Settings,
    names: list[str],
    identifier: str | None,
    at: datetime | None = None,
    *,
    unsigned: bool,
) -> Manifest:
    """Return the manifest of the backup ``identifier``, or of the newest of ``names``."""
    databases = load_registry(settings.registry).select(names)
    with open_store(settings, settings.b2_key(B2_KEY)) as store:
        catalogue = Catalogue(store, settings.prefix)
        backup = catalogue.find(databases, identifier, at)
        return catalogue.manifest(backup, Signers.of(settings, trusting=unsigned))
