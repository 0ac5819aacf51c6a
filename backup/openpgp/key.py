"""What gpg would use a key for, and until when, as its listing in colons says (doc/DETAILS)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

# Places of fields in a line.
VALIDITY = 1
EXPIRY = 6  # seconds since 1970, empty for never
VALUE = 9
CAPABILITIES = 11
TOKEN = 14
USELESS = "idren"  # invalid, disabled, revoked, expired, never to be trusted
# Of a private key: it is here, or its place is held by a stub. Anything else is the card it is on.
PRESENT, ABSENT = "+", "#"
EVER = datetime.max.replace(tzinfo=UTC)

IMPORTED = "[GNUPG:] IMPORT_RES "
LEFT_OUT = (1, 12, 13, 14)  # its counts: without user id, new, not imported, of version 3

Use = Literal["e", "s"]  # encrypts, signs


@dataclass(frozen=True)
class Part:
    """A primary key, or one of its subkeys; ``uses`` are empty if gpg would not use it today.

    ``decrypts``: its private half is here, and can decrypt, be its time over or not. ``keygrip`` is
    what gpg's agent calls that, if the listing tells it.
    """

    fingerprint: str
    uses: str
    valid: bool
    expires: datetime = EVER
    decrypts: bool = False
    keygrip: str = ""


@dataclass(frozen=True)
class Key:
    """A key as its owner knows it: the primary one, which is the first part, and its subkeys."""

    parts: tuple[Part, ...]

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the primary key."""
        return self.parts[0].fingerprint

    def until(self, use: Use) -> datetime | None:
        """Return until when gpg would use it so, :data:`EVER` for ever, None if not even today.

        It takes another subkey once one has ended, so the last of those that it would use counts,
        and the primary key, without which none does.
        """
        primary = self.parts[0]
        ends = [part.expires for part in self.parts if use in part.uses]
        return min(primary.expires, max(ends)) if ends and primary.valid else None

    @property
    def encrypts(self) -> bool:
        """Whether gpg would encrypt to it today."""
        return self.until("e") is not None

    @property
    def signs(self) -> bool:
        """Whether gpg would sign with it today."""
        return self.until("s") is not None

    def end_of(self, fingerprint: str) -> datetime | None:
        """Return the end of its part ``fingerprint``, None if it has no such part."""
        for part in self.parts:
            if part.fingerprint == fingerprint:
                return min(part.expires, self.parts[0].expires)
        return None


def parse_keys(colons: str) -> tuple[Key, ...]:
    """Return the keys in gpg's ``--with-colons`` listing of public or private keys."""
    keys: list[list[Part]] = []
    opened: list[str] = []
    for fields in (line.split(":") for line in colons.split("\n")):
        if fields[0] in ("pub", "sec"):
            keys.append([])
        if fields[0] in ("pub", "sec", "sub", "ssb"):
            opened = fields
        elif fields[0] == "fpr" and opened:
            keys[-1].append(_part(opened, fields[VALUE]))
            opened = []
        elif fields[0] == "grp":
            keys[-1][-1] = replace(keys[-1][-1], keygrip=fields[VALUE])
    return tuple(Key(tuple(parts)) for parts in keys)


def count_left_out(status: str) -> int:
    """Return how many keys an import left out that ended well, as gpg's status lines say.

    A backup would be encrypted to fewer keys than the file has.
    """
    counts = [line.split()[2:] for line in status.split("\n") if line.startswith(IMPORTED)]
    return sum(int(numbers[place]) for numbers in counts for place in LEFT_OUT)


def _part(fields: list[str], fingerprint: str) -> Part:
    capabilities = fields[CAPABILITIES]
    valid = not set(fields[VALIDITY]) & set(USELESS) and "D" not in capabilities
    token = fields[TOKEN] if len(fields) > TOKEN else ""
    # In lower case what this part can do, in upper case what the key as a whole can.
    uses = "".join(filter(str.islower, capabilities)) if valid and token != ABSENT else ""
    expires = datetime.fromtimestamp(int(fields[EXPIRY]), UTC) if fields[EXPIRY] else EVER
    return Part(fingerprint, uses, valid, expires, token == PRESENT and "e" in capabilities)
