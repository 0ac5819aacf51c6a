"""How fast the ingest engine is, beside psql and the tools that users know, in one run."""
