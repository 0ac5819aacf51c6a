from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ByteSize, Field

from frame.failure import WrongUse
from frame.settings import Settings


class Demo(Settings):
    PREFIX = "DEMO_"

    folder: Path = Field(description="where things are")
    size: ByteSize = Field(default=ByteSize(16 << 20), ge=5, description="how large")
    name: str = Field(default="", description="what it is called")
    task: str = Field(default="judge", alias="NOMAD_TASK", pattern="^[a-z]+$", description="whose")


def test_variables_are_the_prefix_and_the_name_or_the_alias() -> None:
    found = Demo.from_environment(
        {"DEMO_FOLDER": "/here", "DEMO_SIZE": "8MiB", "NOMAD_TASK": "fetch", "HOME": "/root"}
    )
    assert (found.folder, found.size, found.task) == (Path("/here"), 8 << 20, "fetch")


def test_an_empty_variable_is_one_that_is_not_set() -> None:
    assert Demo.from_environment({"DEMO_FOLDER": "/here", "NOMAD_TASK": ""}).task == "judge"
    with pytest.raises(WrongUse, match="DEMO_FOLDER is not set"):
        Demo.from_environment({"DEMO_FOLDER": ""})


def test_everything_that_is_wrong_is_named_at_once_and_no_value_is_repeated() -> None:
    with pytest.raises(WrongUse) as caught:
        Demo.from_environment({"DEMO_SIZE": "hush", "NOMAD_TASK": "hush 2"})
    message = caught.value.message
    for name in ("DEMO_FOLDER is not set", "DEMO_SIZE is wrong: ", "NOMAD_TASK is wrong: "):
        assert name in message
    assert "hush" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_each_is_explained_with_its_default() -> None:
    assert Demo.explained() == [
        ("DEMO_FOLDER", "where things are (required)"),
        ("DEMO_SIZE", "how large (default: 16.0MiB)"),
        ("DEMO_NAME", "what it is called"),
        ("NOMAD_TASK", "whose (default: judge)"),
    ]
