from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from scripts.repository import ROOT
from scripts.variables import read_variables

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
