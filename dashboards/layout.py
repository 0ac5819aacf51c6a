"""How dashboards lie in files: Superset's own layout of an export, below ``dashboards/``."""

from __future__ import annotations

# The one database that files may name: what it is, Superset learns from the platform alone.
DATABASE = "School"
DATABASE_UUID = "6d617274-7300-4000-8000-7363686f6f6c"
SCHEMA = "marts"
