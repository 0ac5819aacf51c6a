"""Apache Superset as a service of the platform: its set-up, roles, and dashboards from files."""
