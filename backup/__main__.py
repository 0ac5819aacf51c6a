"""The program: ``backup``, or ``python -m backup``."""

# In the order in which the help names the verbs.
from backup.commands import run, show, restore, drill, coverage, keep, keys  # noqa: I001
from backup.commands.app import app

__all__ = ["app", "coverage", "drill", "keep", "keys", "restore", "run", "show"]

if __name__ == "__main__":
    app.run()
