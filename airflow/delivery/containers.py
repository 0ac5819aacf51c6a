"""The analysts' ``containers/*.yaml``: which of the platform's containers runs when, and with what.

Such as::

    container: meltano
    schedule: "0 3 * * *"
    owner: it-analytics
    meta: {environment: prod, job: desk}
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)

from ingest import document
from ingest.contract import Owner, Schedule  # noqa: TC001 - pydantic reads them
from ingest.errors import ContractError, Problem

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "container_"
"""What the id of a container's DAG begins with; the file's name without its suffix follows."""
_MOST_META = 20


def _check_line(text: str) -> str:
    # It stands in logs and pages, and PostgreSQL stores no text with a NUL.
    if not text.isprintable():
        raise ValueError("expected one line of printable characters")
    return text


Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Line = Annotated[str, Field(max_length=200), AfterValidator(_check_line)]
# No brace: what a file says is no template, which the platform would fill in. Nor does it begin as
# an option of the container's program would.
Value = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,:;/@=+*][A-Za-z0-9_.,:;/@=+* -]{0,199}$")]


class Container(BaseModel):
    """One file: a DAG of one task that has Nomad run the container."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    container: Name = Field(description="a name of the platform's list, nomad/containers.toml")
    schedule: Schedule = Field(description="cron, in UTC")
    owner: Owner
    description: Line = ""
    meta: dict[Name, Value] = Field(
        default_factory=dict, max_length=_MOST_META, description="what the container is told"
    )
    minutes: Annotated[int, Field(ge=1, le=720)] = Field(
        default=60, description="after which a run is stopped"
    )

    @field_validator("meta")
    @classmethod
    def _is_its_own(cls, meta: dict[str, str]) -> dict[str, str]:
        if kept := {*meta} & {"run_id", "log_url"}:
            raise ValueError(f"expected names of one's own, found {min(kept)}, which is given")
        return meta

    @property
    def limit(self) -> timedelta:
        """The longest that a run may take."""
        return timedelta(minutes=self.minutes)


def read(file: Path) -> Container:
    """Return what ``file`` says; raise ContractError with all that is wrong, each with its line."""
    document.check_name(file)
    found = document.read(file)
    try:
        return Container.model_validate(found.value)
    except ValidationError as error:
        problems = []
        for fault in error.errors(include_url=False, include_input=False):
            key = tuple(part for part in fault["loc"] if part != "[key]")
            said = fault["msg"].removeprefix("Value error, ")
            problems.append(Problem(file, found.line(key), document.show(key), said))
        raise ContractError(tuple(sorted(problems, key=lambda each: each.line))) from None
