"""What several DAGs share. Airflow takes no DAGs from here (.airflowignore)."""
