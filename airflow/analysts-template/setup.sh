#!/bin/sh
# Makes .venv with the gate and the engine, and .venv/dbt, in the versions that the platform runs.
# `make setup` calls it. What is there already is not made again.
set -eu
cd "$(dirname "$0")"

fail() {
  echo "error: $1" >&2
  echo "HINT: $2" >&2
  exit 2
}

[ -n "${HARMATTAN:-}" ] || fail "no platform is named" \
  "Name its folder, a git address or a wheel: make setup HARMATTAN=git+https://HOST/harmattan.git@v1.2.0; or write it into the Makefile once."
# A bare name would be looked for at a package index, where it is anybody's.
case $HARMATTAN in
  *://* | /*) ;;
  *) HARMATTAN=./$HARMATTAN ;;
esac
case $HARMATTAN in
  *://*) ;;
  *) [ -e "$HARMATTAN" ] || fail "there is no $HARMATTAN" \
    "HARMATTAN is the platform's folder, git+https://HOST/…@TAG, or a wheel." ;;
esac
uv=$(command -v uv || true)

suits() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null
}
suits .venv/bin/python || rm -rf .venv
if [ ! -d .venv ] && [ -n "$uv" ]; then
  # The platform's own first, which uv may fetch.
  "$uv" venv --quiet --seed --python 3.11 .venv || "$uv" venv --quiet --seed --python 3.12 .venv ||
    fail "uv finds no Python 3.11 or 3.12" "Have it fetch one: uv python install 3.11"
elif [ ! -d .venv ]; then
  for candidate in python3.11 python3.12 python3; do
    if suits "$candidate"; then
      python=$candidate
      break
    fi
  done
  [ -n "${python:-}" ] || fail "no Python 3.11 or 3.12 on PATH" \
    "Install it (Debian 12: apt-get install python3-venv; macOS: brew install python@3.11), or uv, which fetches one."
  "$python" -m venv .venv || { rm -rf .venv; fail "$python makes no environment" \
    "See above; on Debian: apt-get install python3-venv"; }
fi

echo "look at the platform" >&2
rm -rf .venv/new
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir .venv/new \
  "$HARMATTAN" || fail "no wheel comes of what HARMATTAN names" \
  "See above; it is the platform's folder, git+https://HOST/…@TAG, or a wheel."
wheel=$(ls .venv/new/harmattan-*.whl) || fail "HARMATTAN names something else than the platform" \
  "It is the platform's folder, git+https://HOST/…@TAG, or a wheel."
sum=$(.venv/bin/python -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$wheel")
if [ "$(cat .venv/installed 2>/dev/null)" = "$sum" ]; then
  rm -rf .venv/new
  echo "nothing new: $(.venv/bin/dag-sync --version)" >&2
  exit 0
fi

install() { # into the environment $1 what follows
  environment=$1
  shift
  if [ -n "$uv" ]; then
    "$uv" pip install --quiet --compile-bytecode --no-deps --python "$environment/bin/python" "$@"
  else
    .venv/bin/python -m pip --python "$environment/bin/python" install --quiet \
      --disable-pip-version-check --no-deps "$@"
  fi || fail "the packages of $environment cannot be installed" \
    "See above; if the network is slow, run it again: what came is kept."
}

rm -f .venv/installed
.venv/bin/python -m zipfile -e "$wheel" .venv/new/wheel
echo "install what the gate runs (some minutes the first time)" >&2
install .venv --require-hashes --requirement .venv/new/wheel/delivery/locks/airflow.txt
# Its packages disagree with Airflow's.
[ -d .venv/dbt ] || .venv/bin/python -m venv --without-pip .venv/dbt
install .venv/dbt --require-hashes --requirement .venv/new/wheel/delivery/locks/dbt.txt
install .venv --force-reinstall "$wheel"
# For editors: .vscode/settings.json and the first line of each pipeline file name it.
.venv/bin/ingest schema > .venv/new/pipeline.schema.json
mv .venv/new/pipeline.schema.json .venv/pipeline.schema.json
echo "$sum" > .venv/new/installed
mv .venv/new/installed .venv/installed
rm -rf .venv/new
echo "set up: $(.venv/bin/dag-sync --version)" >&2
