"""Every command of the house: help that fits 80 columns, and one exit code for what is missing."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tests import forked

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frame.application import Application

ROOT = Path(__file__).resolve().parents[2]
MODULES = (
    "backup.__main__",
    "bench.__main__",
    "dashboards.__main__",
    "delivery.__main__",
    "ingest.cli",
    *(
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "scripts").rglob("*.py"))
        if "app = Application(" in path.read_text()
    ),
)
PIPELINE = """\
source: nowhere
schema: raw_nowhere
schedule: "0 2 * * *"
owner: people-analytics
tables: [{name: public.staff}]
"""


def verbs(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the words that lead to each command and group below ``command``."""
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from verbs(below, *path, name)


def application(module: str) -> Application:
    found: Application = import_module(module).app
    return found


@pytest.mark.parametrize("module", MODULES)
def test_help_of_every_verb_fits_80_columns_and_says_each_option_in_a_sentence(module: str) -> None:
    app = application(module)
    for words in verbs(get_command(app)):
        said = CliRunner().invoke(
            app, [*words, "--help"], prog_name=app.info.name, env={"COLUMNS": "80"}
        )
        assert said.exit_code == 0, said.output
        lines = said.stdout.splitlines()
        assert max(map(len, lines)) <= 80, [line for line in lines if len(line) > 80]
        assert not [
            line for line in lines if line.endswith("...") and not line.startswith("Usage:")
        ], f"a summary of {words} is cut off"
        for option in _options(said.stdout):
            assert re.search(r"[.)\]]$", option), f"{words}: no full sentence: {option}"
            assert re.search(r"^[A-Z]", option), f"{words}: no full sentence: {option}"


def _options(text: str) -> list[str]:
    """Return the words on each option, as one line each."""
    found: list[str] = []
    for line in text.partition("\nOptions:\n")[2].partition("\n\n")[0].splitlines():
        if re.match(r"  -", line):
            found.append(re.split(r"  +", line.strip(), maxsplit=1)[-1])
        else:
            found[-1] += f" {line.strip()}"
    return [re.sub(r"^-\S+( <[^>]*>| [A-Z.]+)? ", "", each) for each in found]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "nowhere.yaml"
    path.write_text(PIPELINE)
    return path


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("backup list", "BACKUP_BUCKET"),
        ("backup restore hr --into-env NOT_SET", "BACKUP_SECRETS_DIR"),
        ("ingest check /nowhere/hr.yaml", "/nowhere/hr.yaml"),
        ("ingest plan {file}", "AIRFLOW_CONN_NOWHERE"),
        ("ingest init nowhere", "AIRFLOW_CONN_NOWHERE"),
        ("ingest init postgresql://u:hush@h/d", "connection id"),
        ("delivery fetch", "DELIVERY_REMOTE"),
        ("scripts.tools podman", "podman"),
        ("delivery publish", "NOMAD_ALLOC_ID"),
        ("delivery verdict", "/mirror"),
        ("scripts.deploy --var-file /nowhere.hcl", "/nowhere.hcl"),
        ("scripts.vault_setup --environment a --jwks-url b --address c", "VAULT_TOKEN"),
        ("scripts.show nothing", "nothing"),
    ],
)
def test_a_connection_file_or_variable_that_is_not_there_is_wrong_use(
    words: str, named: str, file: Path
) -> None:
    done = forked.run(
        *words.format(file=file).split(),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    error, hint = done.stderr.split("\nHINT: ")
    assert error.startswith("error: ")
    assert named in error
    assert "hush" not in done.stderr
    assert hint.strip()
