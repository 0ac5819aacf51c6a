#!/bin/sh
# An SSH server with one repository: the analysts' key pushes and pulls, the deploy key only pulls.
set -eu
secrets=$1
home=/var/lib/harmattan/git
mkdir -p "$home"
[ -d "$home/analysts.git" ] || git init --quiet --bare --initial-branch=main "$home/analysts.git"
run=$(mktemp -d)
install -m 600 "$secrets/host_key" "$run/host_key"
{
  # shellcheck disable=SC2016 # sshd sets the variable, for the command that it runs
  printf 'restrict,command="git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"" %s\n' \
    "$(cat "$secrets/analysts_key.pub")"
  printf 'restrict,command="git upload-pack %s/analysts.git" %s\n' \
    "$home" "$(cat "$secrets/deploy_key.pub")"
} > "$run/authorized_keys"
chmod 600 "$run/authorized_keys"
exec /usr/sbin/sshd -D -e -p 2222 -h "$run/host_key" \
  -o AuthorizedKeysFile="$run/authorized_keys" -o StrictModes=no -o UsePAM=no \
  -o PidFile="$run/sshd.pid" -o PasswordAuthentication=no -o AllowTcpForwarding=no
