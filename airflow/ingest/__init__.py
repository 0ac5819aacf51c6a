"""Extract-load from PostgreSQL into the warehouse, and the DAGs that run it."""
