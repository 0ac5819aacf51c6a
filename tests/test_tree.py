"""``tests/`` mirrors the tree: tests/PATH/test_NAME.py tests PATH/NAME.py.

``test_main.py`` tests a package's ``__main__.py``, and a folder's hyphens are underscores here.
What is named after a behaviour, because several modules have a part in it, stands in BEHAVIOURS.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.repository import ROOT

TESTS = ROOT / "tests"
# They drive the whole platform.
WHOLE = ("e2e", "soak")
BEHAVIOURS = {
    "airflow/analysts_template/test_template.py": "a repository that starts from the template",
    "airflow/config/test_bundles.py": "bundles of DAGs, as the job files set them",
    "airflow/config/test_options.py": "airflow.cfg, and what the job files set beside it",
    "airflow/harmattan/test_queued.py": "a task waits for as long as there is no broker or worker",
    "airflow/harmattan/runs/test_leader.py": "a Nomad whose leader is lost between two words",
    "airflow/harmattan/test_live.py": "a commit that is live is what runs, in every DAG",
    "backup/test_damage.py": "damage, as verify, restore and drill find it",
    "backup/test_globals.py": "a server's roles, from the dump to another server",
    "backup/test_hostile.py": "an owner who plants code for those with more rights",
    "backup/test_hostile_superuser.py": "a superuser of a source, whose backup is drilled",
    "backup/test_restore.py": "`backup restore`, from the command to the rows",
    "backup/test_kills.py": "a run that is killed at any moment",
    "backup/test_rotation.py": "the GPG keys, as the runbook rotates them",
    "backup/test_versions.py": "servers of every version in support, small ones, and standbys",
    "backup/test_restore_by_hand.py": "docs/restore-by-hand.md, command by command",
    "backup/test_migrations.py": "backups beside migrations, from the lock to the restore",
    "backup/test_limits.py": "servers that take calls and never answer, at every verb",
    "backup/test_whole.py": "whole databases of every kind, from the dump to the drill",
    "dashboards/test_school_dashboards.py": "the analysts' dashboards, as files",
    "frame/test_peers.py": "webhooks, mail servers and Nomad with a certificate of one's own",
    "backup/test_peers.py": "a bucket and databases with a certificate of one's own",
    "ingest/test_peers.py": "databases with a certificate of one's own, session by session",
    "frame/test_commands.py": "all commands of the house: help, and what is missing",
    "ingest/test_application.py": "an application at the source, beside runs",
    "ingest/test_poolers.py": "poolers on either side",
    "ingest/test_file_changes.py": "a pipeline file that says something else than before",
    "ingest/test_told.py": "what people hear of a failure, by every way",
    "ingest/test_versions.py": "sources of other versions and encodings",
    "ingest/test_convergence.py": "whatever happens at a source, by an oracle",
    "ingest/test_corners.py": "what once went wrong",
    "ingest/test_crashes.py": "a warehouse that crashes",
    "ingest/test_kills.py": "a run that is killed at any moment",
    "ingest/test_ranges.py": "a table that several sessions read at once",
    "ingest/test_schema_changes.py": "a source whose tables change",
    "ingest/test_readers.py": "readers of a table while it is published",
    "ingest/test_school.py": "the school's databases through a week",
    "ingest/test_torture.py": "every type of column and every value",
    "ingest/test_trouble.py": "what goes wrong on either server",
    "nomad/test_environments.py": "two environments on one Nomad and one Vault",
    "nomad/test_moves.py": "Redis on another node, as its clients find it",
    "nomad/test_secrets.py": "no secret in any job file",
    "nomad/test_variables.py": "the variables of job files and nomad/vars",
    "scripts/health/test_faults.py": "ports, disks, programs and nodes, while jobs are waited for",
    "scripts/test_deploy_causes.py": "`deploy` as it is typed, beside what stops its jobs",
    "scripts/test_commands.py": "all commands: --help and wrong use",
    "standins/b2_server/test_object_lock.py": "Object Lock, in buckets, files and lifecycle",
    "test_repository.py": "the files around the code",
    "test_tree.py": "the tests themselves",
    "vault_policies/test_environments.py": "two environments in one Vault, role by role",
    "vault_policies/test_policies.py": "all policies, beside what the job files read",
}
FILES = sorted(
    str(path.relative_to(TESTS))
    for path in TESTS.rglob("test_*.py")
    if path.relative_to(TESTS).parts[0] not in WHOLE
)


def mirrored(file: str) -> bool:
    """Tell whether a module or a folder of that name is where ``file`` says."""
    path = Path(file)
    name = path.stem.removeprefix("test_")
    above = TESTS if path.parent == Path() else ROOT / path.parent
    folders = [above, Path(str(above).replace("_", "-"))]
    names = [f"{name}.py", name, *(["__main__.py"] if name == "main" else [])]
    return any((folder / each).exists() for folder in folders for each in names)


@pytest.mark.parametrize("file", FILES)
def test_a_test_module_stands_where_what_it_tests_stands(file: str) -> None:
    assert mirrored(file) != (file in BEHAVIOURS), (
        f"tests/{file} mirrors a module and is in BEHAVIOURS as well"
        if mirrored(file)
        else f"tests/{file} mirrors no module: rename it, or add it to BEHAVIOURS with the reason"
    )


def test_every_behaviour_has_its_module() -> None:
    assert BEHAVIOURS.keys() <= set(FILES)
