"""The one list of all that is backed up: what, when, and for how long it is kept."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from frame.failure import WrongUse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Folders under the environment's prefix, one a purpose, so that each key has its own.
DAILY, DRILLS, MONTHLY = "daily", "drills", "monthly"
# Those, and what jobs of the program's own are called behind backup-.
RESERVED = (DAILY, DRILLS, MONTHLY, "coverage")
MEGABYTE = 1_000_000
CRON_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def check_cron(text: str) -> str:
    """Return ``text`` if it is five cron fields of numbers, ``*``, ranges, lists and steps.

    Names and macros are left out although Nomad takes them: one spelling for one schedule.
    """
    fields = text.split()
    if len(fields) != len(CRON_RANGES):
        raise ValueError(f"cron {text!r} has {len(fields)} fields, not 5")
    for field, (low, high) in zip(fields, CRON_RANGES, strict=True):
        for item in field.split(","):
            span, _, step = item.partition("/")
            first, _, last = span.partition("-")
            numbers = [] if span == "*" else [first, *([last] if "-" in span else [])]
            if not all(number.isdecimal() and low <= int(number) <= high for number in numbers):
                raise ValueError(f"cron {text!r} has {item!r} where {low} to {high} may stand")
            if "/" in item and not (step.isdecimal() and 0 < int(step) <= high):
                raise ValueError(f"cron {text!r} has the step {step!r}")
    return text


def check_name(name: str) -> str:
    """Return ``name`` if no folder or job of the program's own is called that."""
    if name in RESERVED:
        raise ValueError(f"name {name!r} is kept for the program's own use")
    return name


def check_fingerprint(text: str) -> str:
    """Return the fingerprint of an OpenPGP key as gpg writes it in colons, without spaces."""
    fingerprint = "".join(text.split()).upper()
    if not re.fullmatch(r"[0-9A-F]{40}|[0-9A-F]{64}", fingerprint):
        raise ValueError(f"fingerprint {text!r} is not 40 or 64 hexadecimal digits")
    return fingerprint


Fingerprint = Annotated[str, AfterValidator(check_fingerprint)]
Kind = Literal["database", "globals", "nomad", "vault"]
NAME = r"^[a-z][a-z0-9_]{0,39}$"
Name = Annotated[str, Field(pattern=NAME), AfterValidator(check_name)]
VaultPath = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9_-]+(/[a-z0-9_-]+)+$",
        description="where a URI is, relative to the environment's prefix",
    ),
]
Cron = Annotated[str, AfterValidator(check_cron), Field(description="cron, UTC")]


class Entry(BaseModel):
    """Anything that is backed up: one job, one folder in the bucket, one key that signs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    kind: Kind
    schedule: Cron
    expected_size: ByteSize = Field(gt=0, description="of what is dumped")
    vault_path: VaultPath | None = Field(default=None, description="None: no URI is needed")
    proof: Literal["digests", "counts"] = Field(
        default="digests", description="what of each table a restore is held against"
    )
    accepted: tuple[str, ...] = Field(
        default=(),
        description="what coverage tells of its backups and is known: names as it tells them",
    )


class Database(Entry):
    """One database and how it is kept."""

    kind: Literal["database"] = "database"
    server: Name = Field(description="the server that holds it")
    dbname: str = Field(default="", description="what the server calls it; empty: the name")
    vault_path: VaultPath
    retention: Literal["daily"]

    @property
    def called(self) -> str:
        """What the server calls it."""
        return self.dbname or self.name


class Server(BaseModel):
    """One server of PostgreSQL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    vault_path: VaultPath
    schedule: Cron
    without: tuple[str, ...] = Field(default=(), description="databases not to be backed up")

    @property
    def globals(self) -> Entry:
        """Its roles and tablespaces, as something that is backed up."""
        return Entry(
            name=f"{self.name}_globals",
            kind="globals",
            schedule=self.schedule,
            expected_size=ByteSize(MEGABYTE),
            vault_path=self.vault_path,
        )


class ClusterSnapshot(BaseModel):
    """The state of Nomad or Vault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["nomad", "vault"]
    schedule: Cron

    @property
    def entry(self) -> Entry:
        """It as something that is backed up."""
        return Entry(
            name=self.name,
            kind=self.name,
            schedule=self.schedule,
            expected_size=ByteSize(100 * MEGABYTE),
        )


class Registry(BaseModel):
    """All that is backed up, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recovery_key: Fingerprint | None = Field(
        default=None, description="of the offline key that every backup is encrypted to"
    )
    object_lock: str | None = Field(
        default=None,
        pattern=r"^(compliance|governance), [1-9][0-9]* (days|years)$",
        description="the bucket's default retention, as `backup lifecycle show` tells it",
    )
    server: tuple[Server, ...] = Field(min_length=1)
    database: tuple[Database, ...] = Field(min_length=1)
    snapshot: tuple[ClusterSnapshot, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        entries = self.entries
        for what, values in (
            ("name", [entry.name for entry in entries]),
            ("vault_path", [entry.vault_path for entry in entries if entry.vault_path]),
        ):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise ValueError(f"the {what} {twice[0]!r} is there twice")
        servers = {server.name for server in self.server}
        for database in self.database:
            if database.server not in servers:
                raise ValueError(
                    f"database {database.name!r} is on the server {database.server!r}, "
                    "of which there is no [[server]]"
                )
        return self

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All that is backed up: what a server needs before its databases comes first."""
        return (
            *(server.globals for server in self.server),
            *self.database,
            *(snapshot.entry for snapshot in self.snapshot),
        )

    def get(self, name: str) -> Entry:
        """Return what is called ``name``."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in self.entries)
        raise WrongUse(
            f"{name!r} is not in the registry, which holds {known}",
            hint="Give one of these names or add the database to backup/databases.toml.",
        )

    def select(self, names: Sequence[str]) -> tuple[Entry, ...]:
        """Return what is called ``names``, or all when no name is given."""
        return tuple(self.get(name) for name in names) if names else self.entries


def load_registry(path: Path) -> Registry:
    """Read and check the registry; one :class:`WrongUse` names everything that is wrong in it."""
    hint = "Correct the file; backup/databases.toml in the repository shows the form."
    try:
        return Registry.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise WrongUse(
            f"registry {path} cannot be read: {error.strerror}",
            hint="Point BACKUP_REGISTRY at the file or leave it unset for the one in the package.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUse(f"registry {path} is not TOML: {error}", hint=hint) from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        raise WrongUse(f"registry {path} is wrong: {faults}", hint=hint) from error
