"""What Linux lets a process say of itself."""

from __future__ import annotations

import ctypes
import sys

# Elsewhere, at a desk, a tree that one trusts is read without it.
LINUX = sys.platform == "linux"
# Of linux/prctl.h.
PARENT_DEATH_SIGNAL = 1
DUMPABLE = 4
CHILD_SUBREAPER = 36
NO_NEW_PRIVS = 38


def set_to(option: int, value: int) -> None:
    """Ask Linux to treat this process so. Raises OSError if it does not."""
    if not LINUX:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} was refused")
