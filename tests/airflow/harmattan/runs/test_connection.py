"""The connection to Nomad, as Airflow asks for it. The tasks of test_trigger.py use it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

PROGRAM = """
import json, os, sys
from pathlib import Path
from airflow.exceptions import AirflowNotFoundException
from airflow.models import Connection
token, answers = Path(sys.argv[1]), []
def ask(conn_id):
    try:
        found = Connection.get_connection_from_secrets(conn_id)
    except AirflowNotFoundException:
        return answers.append(None)
    parts = [found.schema, found.host, found.port, found.password, found.extra_dejson]
    answers.append(parts)
ask("nomad_runs")
token.write_text("renewed")
ask("nomad_runs")
ask("warehouse")
token.unlink()
ask("nomad_runs")
print("FOUND", json.dumps(answers))
"""


def test_it_is_read_afresh_and_is_the_only_one(
    airflow_program: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    token, ca = tmp_path / "nomad_runs.jwt", tmp_path / "ca.pem"
    token.write_text("first\n")
    ca.write_text("a certificate")
    kwargs = {
        "address": "https://nomad.test:4646", "token_file": str(token), "namespace": "runs",
        "ca_file": str(ca),
    }  # fmt: skip
    done = airflow_program(
        PROGRAM,
        str(token),
        AIRFLOW__SECRETS__BACKEND="harmattan.runs.connection.NomadConnection",
        AIRFLOW__SECRETS__BACKEND_KWARGS=json.dumps(kwargs),
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    where = ["https", "nomad.test", 4646]
    extra = {"namespace": "runs", "ca": "a certificate"}
    assert json.loads(line.removeprefix("FOUND ")) == [
        [*where, "first", extra], [*where, "renewed", extra], None, None,
    ]  # fmt: skip
    assert "expected a file that Nomad writes" in done.stdout + done.stderr
    assert "HINT: " in done.stdout + done.stderr
