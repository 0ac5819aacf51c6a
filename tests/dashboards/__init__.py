"""The dashboards of the platform: files, and a real Superset on a real PostgreSQL."""
