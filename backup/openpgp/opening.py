"""Whether a private key can open a dump, asked of gpg before anything is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backup.openpgp.crypt import GPG
from backup.pipeline import run_tool
from backup.postgres.connection import plain_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.openpgp.crypt import Keyring

# Fields of gpg's colon format (doc/DETAILS), and of the agent's KEYINFO.
CAPABILITIES, VALUE, SECRET = 11, 9, 14
PROTECTED = 7
EXPORT_IT_BARE = (
    "Export it without its passphrase; the runbook says how under `Restore a database`."
)


@dataclass(frozen=True)
class PrivateKey:
    """One key or subkey whose private half may be at hand: its fingerprint, and its primary's."""

    fingerprint: str
    primary: str
    keygrip: str
    decrypts: bool
    is_there: bool  # False: a stub, whose secret is on a card or was left out of the export


def parse_private_keys(colons: str) -> tuple[PrivateKey, ...]:
    """Return the keys in gpg's ``--with-colons --with-keygrip --list-secret-keys``."""
    keys: list[PrivateKey] = []
    rows = [line.split(":") for line in colons.splitlines()]
    primary = ""
    for number, fields in enumerate(rows):
        if fields[0] not in ("sec", "ssb"):
            continue
        after = rows[number + 1 : number + 3]
        named = {row[0]: row[VALUE] for row in after if row[0] in ("fpr", "grp")}
        fingerprint = named.get("fpr", "")
        primary = fingerprint if fields[0] == "sec" else primary
        keys.append(
            PrivateKey(
                fingerprint,
                primary,
                named.get("grp", ""),
                decrypts="e" in fields[CAPABILITIES],
                is_there=fields[SECRET] == "+",
            )
        )
    return tuple(keys)


def parse_protected(keyinfo: str) -> frozenset[str]:
    """Return the keygrips that need a passphrase in the agent's answer to ``KEYINFO --list``."""
    rows = [line.split() for line in keyinfo.splitlines() if line.startswith("S KEYINFO ")]
    return frozenset(row[2] for row in rows if row[PROTECTED] == "P")


def why_closed(
    keys: Sequence[PrivateKey], protected: frozenset[str], recipients: Sequence[str]
) -> tuple[str, str] | None:
    """Return why none of ``keys`` opens what is encrypted to ``recipients``, and the way out.

    None if one does.
    """
    held = ", ".join(dict.fromkeys(key.primary for key in keys)) or "none"
    meant = [key for key in keys if {key.primary, key.fingerprint} & {*recipients}]
    if not meant:
        return (
            f"the private key at hand is {held}, and the dump is encrypted to "
            f"{', '.join(recipients)}",
            "Give one of those with --key-file, such as the recovery key.",
        )
    secret = [key for key in meant if key.decrypts and key.is_there]
    if not secret:
        return (
            f"private key {meant[0].primary} is there without its secret part that decrypts",
            "Export it whole, with gpg --armor --export-secret-keys.",
        )
    if all(key.keygrip in protected for key in secret):
        return f"private key {secret[0].primary} needs a passphrase", EXPORT_IT_BARE
    return None


def why_ring_is_closed(ring: Keyring, recipients: Sequence[str]) -> tuple[str, str] | None:
    """Return :func:`why_closed` of the private keys in ``ring``. Raises Failure."""
    environment = plain_environment()
    listing = [*GPG, "--homedir", str(ring.home), "--with-keygrip", "--list-secret-keys"]
    colons = run_tool(listing, environment)
    agent = ["gpg-connect-agent", "--homedir", str(ring.home), "KEYINFO --list", "/bye"]
    return why_closed(
        parse_private_keys(colons), parse_protected(run_tool(agent, environment)), recipients
    )
