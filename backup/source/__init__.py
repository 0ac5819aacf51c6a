"""The database that is backed up: what it holds, in one snapshot, in nobody's way."""
