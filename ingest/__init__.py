"""Extract-load from PostgreSQL into the warehouse; it runs by itself, without Airflow."""
