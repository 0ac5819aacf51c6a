"""The list of the databases that pipelines read: a job, a Vault role and a policy each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scripts import lists
from scripts.repository import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SOURCES = ROOT / "nomad/sources.toml"
# Below the environment's prefix.
FOLDER = "connections/ingest"
SHARED = ("warehouse", "warehouse_checks")
HASH_KEY = "hash_key"

Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Source(BaseModel):
    """One database that pipelines read, and what else they may name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Id
    hashes: bool = Field(default=False, description="whether there is a key for hashed columns")
    connections: tuple[Id, ...] = Field(default=(), description="further ids")

    @property
    def paths(self) -> dict[str, str]:
        """Where Vault holds each connection of its job, by id, behind the environment's prefix."""
        paths = {each: f"{FOLDER}/{each}" for each in (self.name, *SHARED, *self.connections)}
        if self.hashes:
            paths[HASH_KEY] = f"{FOLDER}/{HASH_KEY}/{self.name}"
        return paths

    @model_validator(mode="after")
    def _names_each_once(self) -> Self:
        given = Counter((self.name, *SHARED, HASH_KEY, *self.connections))
        if twice := [each for each, count in given.items() if count > 1]:
            raise ValueError(f"source {self.name!r}: the connection {twice[0]!r} is there twice")
        return self


class Sources(BaseModel):
    """All of them, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: tuple[Source, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = Counter(each.name for each in self.source)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"the source {twice[0]!r} is there twice")
        for each in self.source:
            if others := set(each.connections) & set(names):
                raise ValueError(
                    f"source {each.name!r}: the connection {min(others)!r} is another source"
                )
        return self


def load_sources(path: Path = SOURCES) -> tuple[Source, ...]:
    """Read and check the list; one :class:`WrongUse` names everything that is wrong in it."""
    return lists.read(path, Sources).source
