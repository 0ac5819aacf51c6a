"""A Vault of the test run's own, and programs in processes of their own, as the image runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from scripts.repository import ROOT
from tests.airflow.loading import connect, dlt_settings, library, mariadb, warehouse
from tests.vault_policies.server import vault_server

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["connect", "dlt_settings", "library", "mariadb", "vault_server", "warehouse"]


@pytest.fixture(scope="session")
def airflow_program(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run Python code where Airflow may be imported: it warns, and writes into its home."""

    def run(code: str, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        home = tmp_path_factory.mktemp("airflow")
        return subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, *words],
            cwd=home,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "AIRFLOW_HOME": str(home),
                "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run
