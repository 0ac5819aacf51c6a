from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from delivery import containers
from ingest.errors import ContractError

if TYPE_CHECKING:
    from pathlib import Path

SOUND = (
    'container: meltano\nschedule: "0 3 * * *"\nowner: it\nmeta: {environment: prod, job: desk}\n'
)


def test_a_file_says_what_runs_when_and_with_what(tmp_path: Path) -> None:
    file = tmp_path / "desk.yaml"
    file.write_text(SOUND)
    said = containers.read(file)
    assert (said.container, said.schedule, said.limit) == (
        "meltano", "0 3 * * *", timedelta(hours=1),
    )  # fmt: skip
    assert said.meta == {"environment": "prod", "job": "desk"}


@pytest.mark.parametrize(
    ("old", "new", "line", "key"),
    [
        ("container: meltano", "container: ../ingest-hr", 1, "container"),
        ("container: meltano", "container: 'meltano '", 1, "container"),
        ('"0 3 * * *"', '"0 3 31 2 *"', 2, "schedule"),
        ("owner: it", "owner: ''", 3, "owner"),
        ("owner: it", 'owner: "i\\0t"', 3, "owner"),
        ("owner: it", "owner: it, root", 3, "owner"),
        ("owner: it", 'owner: it\ndescription: "a\\0b"', 4, "description"),
        ("owner: it", 'owner: it\ndescription: "a\\u202eb"', 4, "description"),
        ("owner: it", "owner: it\nimage: evil", 4, "image"),
        ("owner: it", "owner: it\nminutes: 721", 4, "minutes"),
        ("owner: it", "owner: it\nminutes: '5'", 4, "minutes"),
        ("job: desk", "job: '{{ var.value.x }}'", 4, "meta"),
        ("job: desk", "job: '${NOMAD_SECRETS_DIR}'", 4, "meta"),
        ("job: desk", 'job: "desk\\nx"', 4, "meta"),
        ("job: desk", "run_id: mine", 4, "meta"),
        ("job: desk", "log_url: mine", 4, "meta"),
        ("job: desk", "Job: desk", 4, "meta"),
    ],
)
def test_what_is_wrong_has_its_line_and_key(
    tmp_path: Path, old: str, new: str, line: int, key: str
) -> None:
    file = tmp_path / "desk.yaml"
    assert old in SOUND
    file.write_text(SOUND.replace(old, new))
    with pytest.raises(ContractError) as caught:
        containers.read(file)
    (problem,) = caught.value.problems
    assert (problem.line, problem.key.split(".")[0]) == (line, key)


@pytest.mark.parametrize("name", ["a b.yaml", ".yaml", "desk.yml", "-x.yaml"])
def test_a_name_that_no_dag_can_have_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text(SOUND)
    with pytest.raises(ContractError) as caught:
        containers.read(file)
    assert [problem.key for problem in caught.value.problems] == ["the file's name"]
