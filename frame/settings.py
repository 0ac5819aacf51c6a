"""Settings of a command: fields with their environment variables, read and explained in one way."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import BaseModel, ByteSize, ConfigDict, ValidationError

from frame.failure import WrongUse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails


class Settings(BaseModel):
    """Plain settings; a field is the variable of its alias, or ``PREFIX`` and its name.

    A field's description is one sentence for ``--help``. None is a secret: those are files.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        validate_by_name=True,
        defer_build=True,  # most of a program's commands need none
    )
    PREFIX: ClassVar[str] = ""
    HINT: ClassVar[str] = (
        "Set them in the environment, or in the job's env block; --help explains each."
    )

    @classmethod
    def variables(cls) -> dict[str, str]:
        """Return the environment variable of each field."""
        return {
            name: field.alias or cls.PREFIX + name.upper()
            for name, field in cls.model_fields.items()
        }

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings; an empty variable is one that is not set.

        Raises one :class:`WrongUse` that names everything that is wrong, and repeats no value.
        """
        variables = cls.variables()
        given = {
            cls.model_fields[name].alias or name: environ[variable]
            for name, variable in variables.items()
            if environ.get(variable)
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            faults = "; ".join(cls._fault(each) for each in error.errors(include_input=False))
            raise WrongUse(
                f"settings are incomplete: {faults}",
                cls.HINT,
            ) from None

    @classmethod
    def _fault(cls, error: ErrorDetails) -> str:
        place = str(error["loc"][0])
        variable = cls.variables().get(place, place)
        if error["type"] == "missing":
            return f"{variable} is not set"
        return f"{variable} is wrong: {error['msg'].removeprefix('Value error, ')}"

    @classmethod
    def explained(cls) -> list[tuple[str, str]]:
        """Return each variable with its meaning and its default, for ``--help``."""
        return [(variable, cls._meaning(name)) for name, variable in cls.variables().items()]

    @classmethod
    def _meaning(cls, name: str) -> str:
        field = cls.model_fields[name]
        words = field.description or ""
        if field.is_required():
            return f"{words} (required)"
        if field.default in (None, "", ()) or field.default_factory is not None:
            return words
        default = field.default
        if isinstance(default, ByteSize):
            default = default.human_readable(separator="")
        return f"{words} (default: {default})"
