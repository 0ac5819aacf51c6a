"""The one list of databases: what is backed up, when, and for how long it is kept."""

from __future__ import annotations

import tomllib
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, ValidationError

from backup.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Folders beside the databases' own under the environment's prefix.
DRILLS, MONTHLY = "drills", "monthly"
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
    """Return ``name`` if no folder of the program's own is called that."""
    if name in (DRILLS, MONTHLY):
        raise ValueError(f"name {name!r} is kept for the program's own folder")
    return name


class Database(BaseModel):
    """One database and how it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$"), AfterValidator(check_name)]
    server: str = Field(min_length=1, description="the PostgreSQL server that holds it")
    vault_path: str = Field(
        pattern=r"^[a-z0-9_-]+(/[a-z0-9_-]+)+$",
        description="where its URI is, relative to the environment's prefix",
    )
    schedule: Annotated[str, AfterValidator(check_cron)] = Field(description="cron, UTC")
    retention: Literal["daily"]
    expected_size: ByteSize = Field(gt=0, description="of the database on its server")
    proof: Literal["digests", "counts"] = Field(
        default="digests", description="what of each table a restore is held against"
    )


class Registry(BaseModel):
    """All databases, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database: tuple[Database, ...] = Field(min_length=1)

    def get(self, name: str) -> Database:
        """Return the database called ``name``."""
        for database in self.database:
            if database.name == name:
                return database
        known = ", ".join(database.name for database in self.database)
        raise WrongUse(
            f"database {name!r} is not in the registry, which holds {known}",
            hint="Give one of these names or add the database to backup/databases.toml.",
        )

    def select(self, names: Sequence[str]) -> tuple[Database, ...]:
        """Return the databases called ``names``, or all when no name is given."""
        return tuple(self.get(name) for name in names) if names else self.database


def load_registry(path: Path) -> Registry:
    """Read and check the registry; one :class:`WrongUse` names everything that is wrong in it."""
    hint = "Correct the file; backup/databases.toml in the repository shows the form."
    try:
        registry = Registry.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise WrongUse(
            f"registry {path} cannot be read: {error.strerror}",
            hint="Point BACKUP_REGISTRY at the file or leave it unset for the one in the package.",
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise WrongUse(f"registry {path} is not TOML: {error}", hint=hint) from error
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()
        )
        raise WrongUse(f"registry {path} is wrong: {faults}", hint=hint) from error
    for field in ("name", "vault_path"):
        counts = Counter(getattr(database, field) for database in registry.database)
        twice = [value for value, count in counts.items() if count > 1]
        if twice:
            raise WrongUse(f"registry {path} has the {field} {twice[0]!r} twice", hint=hint)
    return registry
