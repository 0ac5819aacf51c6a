"""The program: ``backup``, or ``python -m backup``."""

# In the order in which the help names the verbs.
from backup.commands import (  # noqa: I001
    run, show, restore, drill, scratch_server, coverage, keep, keys,
)  # fmt: skip
from backup.commands.app import app

__all__ = ["app", "coverage", "drill", "keep", "keys", "restore", "run", "scratch_server", "show"]

if __name__ == "__main__":
    app.run()
