#!/bin/sh
# Installs the Debian packages named that are not there yet. Elsewhere it says which are wanted.
set -eu

missing=
for package in "$@"; do
  [ "$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
    missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "error: not installed:$missing" >&2
  echo "HINT: Install them and run the same command again." >&2
  exit 1
fi
echo "install Debian packages:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # one word a package is meant
apt-get install -y -qq --no-install-recommends $missing >/dev/null
