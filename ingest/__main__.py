"""Starts and ends the command ``ingest``, quickly: a small load takes little longer than both."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import suppress


def entry() -> None:
    """Run the command line and end the process with its exit code.

    Nothing that imports make is garbage, so it is not looked for meanwhile. And a process that ends
    need not take itself apart object by object: all that it wrote to is closed or flushed by then.
    """
    gc.disable()
    from ingest import cli

    gc.freeze()
    gc.enable()
    code = 0
    try:
        cli.entry()
    except SystemExit as end:
        if isinstance(end.code, str):
            raise
        code = end.code or 0
    with suppress(BrokenPipeError):  # nobody reads on, which is theirs to decide
        sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    entry()
