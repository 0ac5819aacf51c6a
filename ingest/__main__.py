"""Starts the command ``ingest``, quickly: a small load takes little longer than its start."""

from __future__ import annotations

import gc
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line and end the process with its exit code.

    Nothing that imports make is garbage, so it is not looked for meanwhile.
    """
    gc.disable()
    from ingest import cli

    gc.freeze()
    gc.enable()
    cli.app.run()


if __name__ == "__main__":
    run()
