"""Airflow's DAG of the models: built, tested, published every morning and after each pipeline."""

from __future__ import annotations

from pathlib import Path

from harmattan.models import models_dag

models = models_dag(
    Path(__file__).resolve().parent.parent,
    after=["raw_hr", "raw_records", "raw_service_desk"],
    schedule="0 4 * * *",  # UTC; the pipelines have published by then
    owner="school-analytics",
)
