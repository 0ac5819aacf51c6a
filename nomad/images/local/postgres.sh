#!/bin/sh
# PostgreSQL with the superuser's password from a file, its cluster made at the first start.
set -eu
data=/var/lib/harmattan/postgres/data
if [ ! -s "$data/PG_VERSION" ]; then
  # A half-made cluster of a killed first start holds nothing yet.
  rm -rf "$data"
  initdb --pgdata="$data" --username=postgres --pwfile="$1" --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --data-checksums
  echo "host all all all scram-sha-256" >> "$data/pg_hba.conf"
fi
exec postgres -D "$data" -c listen_addresses='*' -c port=5432 -c max_connections=200 \
  -c unix_socket_directories=/tmp -c log_statement=none -c password_encryption=scram-sha-256
