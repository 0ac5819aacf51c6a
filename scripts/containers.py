"""The list of the containers that analysts' files may run: a job, a role and a policy each."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scripts import lists
from scripts.repository import ROOT

if TYPE_CHECKING:
    from pathlib import Path

CONTAINERS = ROOT / "nomad/containers.toml"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Container(BaseModel):
    """One container, and what a file may say to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    args: tuple[str, ...] = ()
    meta: tuple[Name, ...] = ()
    memory: Annotated[int, Field(ge=32)] = 512  # MB


class Containers(BaseModel):
    """All of them, in the order of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    container: tuple[Container, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = Counter(each.name for each in self.container)
        if twice := [name for name, count in names.items() if count > 1]:
            raise ValueError(f"the container {twice[0]!r} is there twice")
        return self


def load_containers(path: Path = CONTAINERS) -> tuple[Container, ...]:
    """Read and check the list; one :class:`WrongUse` names everything that is wrong in it."""
    return lists.read(path, Containers).container
