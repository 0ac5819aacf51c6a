"""Running other programs: output to a log, a bound on the time, errors with the log's end."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from frame.failure import Failure
from scripts.repository import LOGS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Nothing that the house starts may report home.
NO_TELEMETRY = {"GOTELEMETRY": "off", "DO_NOT_TRACK": "1", "CHECKPOINT_DISABLE": "1"}


def run(
    name: str,
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 600,
) -> str:
    """Run ``command`` and return its standard output; both streams go to ``.local/logs/NAME.log``.

    ``timeout`` is in seconds. Raises :class:`Failure` with the last lines of the output
    when the program is absent, fails or takes longer.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    hint = f"Read {log}, mend the cause and run the same command again."
    try:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=cwd,
            env={**os.environ, **NO_TELEMETRY, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise Failure(
            f"{command[0]} is not installed",
            f"Install {command[0]} and run the same command again.",
        ) from None
    except subprocess.TimeoutExpired as late:
        said = [part for part in (late.stdout, late.stderr) if part]
        log.write_text(
            "".join(p.decode(errors="replace") if isinstance(p, bytes) else p for p in said)
        )
        raise Failure(f"{name} did not end within {timeout:.0f} s", hint) from None
    log.write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise Failure(f"{name} ended with exit code {done.returncode}:\n{tail}", hint)
    return done.stdout
