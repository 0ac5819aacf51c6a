#!/bin/sh
# Makes .venv with exactly the packages of requirements/dev.txt. Needs Python 3.11 or 3.12.
set -eu
cd "$(dirname "$0")/.."

for candidate in python3.11 python3.12 python3; do
  if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "${python:-}" ]; then
  echo "error: no Python 3.11 or 3.12 on PATH" >&2
  echo "HINT: Install it (on Debian 12: apt-get install python3 python3-venv)." >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  scripts/packages.sh python3-venv
fi

echo "install the locked Python packages into .venv" >&2
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv==0.13.9'
.venv/bin/uv pip sync --quiet --compile-bytecode --python .venv/bin/python requirements/dev.txt
.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
