"""From a plain dump into a database: the archive's entries, and pg_restore."""
