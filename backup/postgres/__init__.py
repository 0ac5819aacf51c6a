"""PostgreSQL: the server that is backed up, and the one that is restored to."""
