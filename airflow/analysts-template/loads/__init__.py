"""Loads by dlt: what is read (sources), and where it goes (pipelines); dags/ says when."""
