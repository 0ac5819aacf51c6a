"""Programs in processes of their own, as the image runs them."""

from __future__ import annotations

from tests.airflow.harmattan.conftest import airflow_program

__all__ = ["airflow_program"]
