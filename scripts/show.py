#!.venv/bin/python
"""Show one of the local platform's secrets: ``scripts/show.py airflow-admin``."""

from __future__ import annotations

import json
import sys

from scripts.console import OperatorError, command
from scripts.local import SECRETS, kept


def main() -> None:
    """Print the secret named by the only argument on standard output."""
    names = sorted(path.stem for path in SECRETS.glob("*.json"))
    if sys.argv[1:] not in [[name] for name in names]:
        raise OperatorError(
            f"usage: {sys.argv[0]} NAME", f"The names are: {', '.join(names) or 'none yet'}."
        )
    value = kept(sys.argv[1])
    print(value if isinstance(value, str) else json.dumps(value, indent=2))


if __name__ == "__main__":
    command(main)
