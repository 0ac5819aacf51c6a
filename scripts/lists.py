"""Lists of the platform team: TOML files of the repository, checked by a model."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from frame.failure import WrongUse

if TYPE_CHECKING:
    from pathlib import Path

Model = TypeVar("Model", bound=BaseModel)


def read(path: Path, model: type[Model]) -> Model:
    """Read and check a list; one :class:`WrongUse` names everything that is wrong in it."""
    hint = f"Correct the file; nomad/{path.name} in the repository shows the form."
    try:
        return model.model_validate(tomllib.loads(path.read_text()))
    except OSError as error:
        raise WrongUse(f"list {path} cannot be read: {error.strerror}", hint) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUse(f"list {path} is not TOML: {error}", hint) from error
    except ValidationError as error:
        faults = "; ".join(
            ": ".join(filter(None, (".".join(map(str, fault["loc"])), fault["msg"])))
            for fault in error.errors()
        )
        raise WrongUse(f"list {path} is wrong: {faults}", hint) from error
