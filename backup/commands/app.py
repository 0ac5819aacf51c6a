"""The command line's frame: its help, the options that verbs share, what they all begin with."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backup.registry import load_registry
from backup.settings import (
    ALERTS,
    B2_KEY,
    B2_RESULTS_KEY,
    DATABASE_URI,
    DRILL_KEY,
    MANIFEST_KEY,
    MANIFEST_RECIPIENT,
    NOMAD_TOKEN,
    RECIPIENTS,
    SERVERS,
    SIGNERS,
    SIGNING_KEY,
    VAULT_TOKEN,
    Settings,
)
from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import WrongUse
from frame.output import screen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.bucket.catalogue import Catalogue, Chosen

FILES = [
    (DATABASE_URI, "run: the source's URI, postgresql://user:password@host/database"),
    (RECIPIENTS, "run, keys, coverage: armoured public keys; a dump is encrypted to each"),
    (MANIFEST_RECIPIENT, "run, keys, coverage: the public key that opens manifests and no dump"),
    (SIGNING_KEY, "run, drill, keys: the armoured private key that signs manifests, or reports"),
    (B2_KEY, 'all but keys, sweep and scratch-server: {"key_id": "...", "key": "..."}'),
    (SIGNERS, 'list, show, verify, restore, drill, coverage, monthly: {"hr": "public key", ...}'),
    (DRILL_KEY, "verify, restore, drill: a private key without a passphrase"),
    (MANIFEST_KEY, "coverage, monthly, show, list: the one that opens manifests and no dump"),
    (B2_RESULTS_KEY, "drill, where b2.json may not write: a key for PREFIX/drills/"),
    (SERVERS, 'coverage: {"postgres": "postgresql://...", ...}'),
    (
        ALERTS,
        'optional: {"webhook": "URL", "ping": "URL"}; the webhook gets what drill and coverage '
        "find, and why they or monthly could not be done; URL/NAME of ping is called after each "
        "run, drill and coverage that went well",
    ),
    (NOMAD_TOKEN, "run, for the snapshot of Nomad"),
    (VAULT_TOKEN, "run, for the snapshot of Vault"),
]
HELP = """Encrypted off-site backups of PostgreSQL databases, and the proof that they restore.

A server's roles, and the state of Nomad and Vault, are backed up beside them. The registry
(databases.toml) lists everything that is backed up.
"""

app = Application(
    "backup",
    help=HELP,
    epilog=epilog(
        definitions("Settings, from the environment", Settings.explained()),
        definitions("Secret files in BACKUP_SECRETS_DIR, each needed by some verbs", FILES),
        exit_codes(),
    ),
)
out = screen()

Timeout = Annotated[
    str, typer.Option(help="End within this time, clean-up included: 90s, 15m, 4h.")
]
CORES = len(os.sched_getaffinity(0))  # that this process may use
Jobs = Annotated[
    int,
    typer.Option(
        min=1, help="Parallel jobs of pg_restore (default: the cores).", show_default=False
    ),
]
Scope = Annotated[list[str] | None, typer.Argument(help="Databases; all if none is named.")]
Identifier = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the backup, as `backup list` shows it.")
]
KeyFile = Annotated[
    Path | None, typer.Option(help="Private key to decrypt with (default: drill_key.asc).")
]
Unsigned = Annotated[
    bool,
    typer.Option("--unsigned", help="Accept a manifest whose signature cannot be checked."),
]


def read_settings() -> Settings:
    """Return the settings of this process's environment. Raises WrongUse."""
    return Settings.from_environment(os.environ)


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


def find_backup(
    catalogue: Catalogue,
    settings: Settings,
    names: list[str],
    identifier: str | None,
    at: datetime | None = None,
) -> Chosen:
    """Return the backup ``identifier``, or the newest trusted one of ``names``, as opened."""
    return catalogue.find(known_names(catalogue, settings, names), identifier, at)


def known_names(
    catalogue: Catalogue, settings: Settings, names: Sequence[str] | None
) -> tuple[str, ...]:
    """Return ``names``, or all if none are given: those of the registry, then of the bucket alone.

    What left the registry is still in the bucket. Raises WrongUse for a name that is in neither.
    """
    registered = [entry.name for entry in load_registry(settings.registry).entries]
    if names and {*names} <= {*registered}:
        return tuple(names)
    known = dict.fromkeys((*registered, *catalogue.names()))
    if strangers := [name for name in names or () if name not in known]:
        raise WrongUse(
            f"{', '.join(map(repr, strangers))} is neither in the registry nor in the bucket, "
            f"which know {', '.join(known)}",
            hint="Give one of these names.",
        )
    return tuple(names or known)
