"""What is read of an API, a folder or a database, and how: dlt's sources."""
