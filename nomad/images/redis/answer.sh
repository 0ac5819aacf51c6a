#!/bin/sh
# Answers an HTTP request: 200 if both servers of the job, which Nomad names to each of its tasks, say
# PONG to the user `health`, who may ask nothing else, and otherwise 503.
set -u

read -r _ # the request; what it asks for is the same either way
answer=OK
# shellcheck disable=SC2154 # Nomad sets them
for server in "$NOMAD_ADDR_broker" "$NOMAD_ADDR_results"; do
  # shellcheck disable=SC2086 # options of redis-cli, or none
  said=$(timeout 3 redis-cli ${TLS:-} --no-auth-warning --user health --pass none \
    -h "${server%:*}" -p "${server##*:}" ping 2>&1)
  [ "$said" = PONG ] || answer="$server: $said"
done
if [ "$answer" = OK ]; then
  printf 'HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n'
else
  printf 'HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\n\r\n%s\n' "$answer"
fi
