"""All that a request needs, opened once: what the server knows, and how it was started."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .buckets import Buckets
from .clock import Clock
from .contents import Contents
from .database import Database
from .errors import bad_auth_token
from .faults import Faults
from .files import Files
from .keys import Key, Keys, Master
from .tokens import Tokens

if TYPE_CHECKING:
    from pathlib import Path

    from .errors import Json


@dataclass(frozen=True)
class Options:
    """What the command line sets; sizes in bytes, the lifetime in seconds."""

    minimum_part_size: int
    recommended_part_size: int
    token_lifetime: int


class CredentialsError(ValueError):
    """The credentials file does not hold what it should."""


def read_credentials(path: Path) -> Master:
    """Return the master key that a credentials file gives."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Master.of(content["account_id"], content["key_id"], content["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CredentialsError(
            f"credentials file {path}: expected a JSON object with the strings account_id, key_id"
            f" and key, found {type(error).__name__}. Write such a file and start again."
        ) from error


class Service:
    """The opened store and the rules of the house."""

    def __init__(self, data: Path, master: Master, options: Options) -> None:
        data.mkdir(parents=True, exist_ok=True)
        self.master, self.options = master, options
        self.database = Database(data / "metadata.sqlite")
        self.clock = Clock(self.database)
        self.contents = Contents(data)
        self.tokens = Tokens(self.database, self.clock)
        self.keys = Keys(self.database, master)
        self.buckets = Buckets(self.database)
        self.files = Files(self.database, self.contents, self.clock)
        self.faults = Faults()
        self.contents.sweep(self.files.blobs())

    @property
    def account_id(self) -> str:
        """Return the one account's id."""
        return self.master.account_id

    def expiry_ms(self, key: Key, lifetime: int) -> int:
        """Return when a token of ``key`` ends: after ``lifetime`` seconds, or with the key."""
        latest = self.clock.now_ms() + lifetime * 1000
        return latest if key.expires_ms is None else min(latest, key.expires_ms)

    def bearer(self, authorization: str | None, *kinds: str) -> tuple[Key, Json]:
        """Return the key behind a token of one of ``kinds``, and what the token holds."""
        if not authorization:
            raise bad_auth_token()
        claims = self.tokens.read(authorization, *kinds)
        key = self.keys.find(claims["key"])
        if key is None:
            raise bad_auth_token()
        return key, claims
