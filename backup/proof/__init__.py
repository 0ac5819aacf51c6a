"""The proof that backups are there and come back, and who hears of it."""
