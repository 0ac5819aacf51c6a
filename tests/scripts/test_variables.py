from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from frame.failure import WrongUse
from scripts.repository import ROOT
from scripts.variables import declared, read_variables, refuse_unknown

if TYPE_CHECKING:
    from pathlib import Path

TEXT = """\
# A comment.
environment = "local"   # and one behind a value
port        = 8080
wanted      = true
datacenters = ["dc1", "dc2"]
url         = "ssh://git@git.example.org:22/dags.git"
"""


def test_values_are_pythons_own(tmp_path: Path) -> None:
    (tmp_path / "one.hcl").write_text(TEXT)
    assert read_variables(tmp_path / "one.hcl") == {
        "environment": "local",
        "port": 8080,
        "wanted": True,
        "datacenters": ["dc1", "dc2"],
        "url": "ssh://git@git.example.org:22/dags.git",
    }


@pytest.mark.parametrize("file", sorted(ROOT.glob("nomad/vars/*.hcl")), ids=lambda path: path.name)
def test_every_environments_file_is_read(file: Path) -> None:
    values = read_variables(file)
    assert values["environment"] == file.stem
    assert '"' not in repr(values).replace('\\"', "")


def test_a_variable_that_no_job_declares_is_told_with_the_nearest_name(tmp_path: Path) -> None:
    known = declared(ROOT.glob("nomad/jobs/*.hcl"))
    assert {"environment", "worker_memory", "source_connections"} <= known
    refuse_unknown(ROOT.glob("nomad/vars/*.hcl"), known)
    file = tmp_path / "own.hcl"
    file.write_text('worker_memry = 2048\nenvironment = "production"\nqqq = true\n')
    with pytest.raises(WrongUse) as caught:
        refuse_unknown([file], known)
    said = caught.value.message.splitlines()[1:]
    assert said == [f"  {file}: qqq", f"  {file}: worker_memry (did you mean worker_memory?)"]


@pytest.mark.parametrize(
    "text", [b"environment = \n", b"environment", b"a = [1\n", b'a = "b"c\n', b"a = \xff\n", b"{}"]
)
def test_a_file_that_is_not_hcl_is_one_error_that_names_it(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "own.hcl"
    file.write_bytes(text)
    with pytest.raises(WrongUse) as caught:
        read_variables(file)
    assert caught.value.message.startswith(f"{file}: expected a variables file in HCL: ")
    assert "\n" not in caught.value.message
