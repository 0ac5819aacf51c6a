"""Whether a private key can open a dump, asked of gpg before anything is downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backup.pipeline import run_tool
from backup.postgres.connection import plain_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.openpgp.crypt import Keyring
    from backup.openpgp.key import Key

PROTECTED = 7  # field of the agent's KEYINFO
EXPORT_IT_BARE = (
    "Export it without its passphrase; the runbook says how under `Restore a database`."
)


def parse_protected(keyinfo: str) -> frozenset[str]:
    """Return the keygrips that need a passphrase in the agent's answer to ``KEYINFO --list``."""
    rows = [line.split() for line in keyinfo.split("\n") if line.startswith("S KEYINFO ")]
    return frozenset(row[2] for row in rows if row[PROTECTED] == "P")


def why_closed(
    keys: Sequence[Key], protected: frozenset[str], recipients: Sequence[str]
) -> tuple[str, str] | None:
    """Return why none of ``keys`` opens what is encrypted to ``recipients``, and the way out.

    None if one does. ``protected`` are the keygrips that need a passphrase.
    """
    meant = [
        (key.fingerprint, part)
        for key in keys
        for part in key.parts
        if {key.fingerprint, part.fingerprint} & {*recipients}
    ]
    if not meant:
        held = ", ".join(key.fingerprint for key in keys) or "none"
        return (
            f"the private key at hand is {held}, and the dump is encrypted to "
            f"{', '.join(recipients)}",
            "Give one of those with --key-file, such as the recovery key.",
        )
    secret = [(primary, part) for primary, part in meant if part.decrypts]
    if not secret:
        return (
            f"private key {meant[0][0]} is there without its secret part that decrypts",
            "Export it whole, with gpg --armor --export-secret-keys.",
        )
    if all(part.keygrip in protected for _, part in secret):
        return f"private key {secret[0][0]} needs a passphrase", EXPORT_IT_BARE
    return None


def why_ring_is_closed(ring: Keyring, recipients: Sequence[str]) -> tuple[str, str] | None:
    """Return :func:`why_closed` of the private keys in ``ring``. Raises Failure."""
    agent = ["gpg-connect-agent", "--homedir", str(ring.home), "KEYINFO --list", "/bye"]
    protected = parse_protected(run_tool(agent, plain_environment()))
    return why_closed(ring.keys, protected, recipients)
