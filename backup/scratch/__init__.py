"""Places that are thrown away: private directories, and another user's PostgreSQL server."""
