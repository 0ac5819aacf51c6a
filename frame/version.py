"""Which version this is: git says it when something is built, and every build carries it."""

from __future__ import annotations

import os
import re
import subprocess
from importlib import metadata
from pathlib import Path

# Set by the Dockerfiles, whose images hold no git repository.
VARIABLE = "HARMATTAN_VERSION"
UNKNOWN = "0+unknown"  # a version of PEP 440, too: a package can be built with it
_ROOT = Path(__file__).resolve().parent.parent
# In a hook of git these name the repository that the hook is of.
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE")
_DESCRIBED = re.compile(
    r"v?(?P<tag>\d[\w.]*)-(?P<commits>\d+)-g(?P<commit>[0-9a-f]+)(?P<dirty>-dirty)?"
)


def own_version() -> str:
    """Return the version, as PEP 440 writes it: ``1.2.0``, or ``1.2.0+5.g0a1b2c3`` after it.

    Of a checkout it is what git says of it now, of an image or an installed package what git
    said when that was built.
    """
    if built := os.environ.get(VARIABLE):
        return built
    if (_ROOT / ".git").exists():
        return from_git(_ROOT)
    try:
        return metadata.version("harmattan")
    except metadata.PackageNotFoundError:
        return UNKNOWN


def _environment(checkout: Path) -> dict[str, str]:
    """Return git's environment, in which no repository but ``checkout`` itself can answer."""
    kept = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return {**kept, "GIT_CEILING_DIRECTORIES": str(checkout.resolve().parent)}


def from_git(checkout: Path) -> str:
    """Return the version that git gives ``checkout``: from the last tag ``vX.Y.Z`` and its commit.

    ``0+g<commit>`` before there is such a tag; ``.dirty`` at its end if files are changed;
    :data:`UNKNOWN` if git does not say, or is not there.
    """
    try:
        answer = subprocess.run(
            ["git", "describe", "--tags", "--long", "--dirty", "--always", "--match=v[0-9]*"],
            cwd=checkout,
            env=_environment(checkout),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    said = answer.stdout.strip()
    if not said:
        return UNKNOWN
    found = _DESCRIBED.fullmatch(said)
    if found is None:
        return f"0+g{said.replace('-', '.')}"
    local = [f"{found['commits']}.g{found['commit']}"] if int(found["commits"]) else []
    local += ["dirty"] if found["dirty"] else []
    return found["tag"] + (f"+{'.'.join(local)}" if local else "")
