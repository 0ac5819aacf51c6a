"""Every option that airflow.cfg or a job file sets is one that this Airflow knows.

Airflow says nothing of an option that it does not know: a wrong name would only be missed.
"""

from __future__ import annotations

import configparser
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kombu.transport.redis import Channel

from scripts.repository import ROOT
from tests.nomad.rendering import DEPLOYMENTS, tasks

pytestmark = pytest.mark.slow

CONFIG = ROOT / "airflow/config/airflow.cfg"
PROGRAM = """
import json
from airflow.configuration import conf
conf.load_providers_configuration()
known = {section: {key: bool(option.get("sensitive"))
                   for key, option in body.get("options", {}).items()}
         for section, body in conf.configuration_description.items()}
print("KNOWN", json.dumps(known))
print("QUEUE", conf.get("operators", "default_queue"), conf.get("core", "auth_manager"))
"""
# Options that are another program's, kombu's, and one that Airflow reads and describes nowhere.
FREE = {"celery_broker_transport_options"}
UNDESCRIBED = {("scheduler", "num_stuck_in_queued_retries")}


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bool]]:
    """Return Airflow's options by section, and whether each is one that may come from a command."""
    home: Path = tmp_path_factory.mktemp("airflow")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "AIRFLOW_HOME": str(home),
             "AIRFLOW_CONFIG": str(CONFIG)},
        cwd=home, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert lines["QUEUE"].split()[0] == "analysts", "the file was not read"
    return json.loads(lines["KNOWN"])  # type: ignore[no-any-return]


def in_file() -> list[tuple[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(CONFIG)
    return [(section, key) for section in parser.sections() for key in parser[section]]


@pytest.fixture(scope="module")
def in_jobs() -> dict[str, tuple[str, str]]:
    """Return (section, option) by the name of the variable, of every variable of every job."""
    names = {
        name
        for job_id in DEPLOYMENTS
        for task in tasks(job_id)
        for name in task["Env"] or {}
        if name.startswith("AIRFLOW__")
    }
    options = {
        name: (section.lower(), key.lower())
        for name in names
        for section, key in re.findall(r"^AIRFLOW__(.+?)__(.+?)(?:_CMD)?$", name)
    }
    assert set(options) == names
    return options


@pytest.mark.parametrize(("section", "key"), in_file())
def test_an_option_of_the_file_is_known(
    known: dict[str, dict[str, bool]], section: str, key: str
) -> None:
    if section in FREE:
        assert hasattr(Channel, key)
        assert key in Channel.from_transport_options
    elif (section, key) in UNDESCRIBED:
        module = importlib.util.find_spec("airflow.jobs")
        assert module is not None
        (folder,) = module.submodule_search_locations or ()
        assert f'key="{key}"' in Path(folder, "scheduler_job_runner.py").read_text()
    else:
        assert key in known.get(section, {}), f"[{section}] {key}"


@pytest.mark.programs
def test_every_option_of_a_job_is_known(
    known: dict[str, dict[str, bool]], in_jobs: dict[str, tuple[str, str]]
) -> None:
    asked = {name: where for name, where in in_jobs.items() if where[0] not in FREE}
    assert asked
    assert [
        name for name, (section, key) in asked.items() if key not in known.get(section, {})
    ] == []


@pytest.mark.programs
def test_what_comes_from_a_command_is_an_option_that_takes_one(
    known: dict[str, dict[str, bool]], in_jobs: dict[str, tuple[str, str]]
) -> None:
    commands = {name: where for name, where in in_jobs.items() if name.endswith("_CMD")}
    assert commands
    takes_none = [name for name, (section, key) in commands.items() if not known[section][key]]
    assert takes_none == [], "Airflow reads no command for these"


def test_no_secret_is_in_the_file(known: dict[str, dict[str, bool]]) -> None:
    for section, key in in_file():
        assert not known.get(section, {}).get(key), f"[{section}] {key} is a secret's place"


def value(section: str, key: str) -> Any:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(CONFIG)
    return parser[section][key]


@pytest.mark.programs
def test_ports_and_queues_are_those_of_the_jobs() -> None:
    """What stands in the file and in a job file must be the same."""
    (serve,) = [task for task in tasks("airflow-logs") if task["Name"] == "serve"]
    assert serve is not None
    assert value("logging", "worker_log_server_port") == "8793"
    assert value("logging", "trigger_log_server_port") == "8793"
    assert value("scheduler", "scheduler_health_check_server_port") == "8974"
    assert value("logging", "base_log_folder") == serve["VolumeMounts"][0]["Destination"]
    assert value("fab", "config_file") == "/opt/harmattan/config/webserver_config.py"
    assert (ROOT / "airflow/config/webserver_config.py").exists()
