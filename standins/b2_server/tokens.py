"""The tokens of a session, signed instead of stored: a restart does not take them back."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING

from .errors import Json, bad_auth_token, expired_auth_token

if TYPE_CHECKING:
    from .clock import Clock
    from .database import Database


class Tokens:
    """Gives tokens of a kind (account, upload, part, download) and reads them back."""

    def __init__(self, database: Database, clock: Clock) -> None:
        key = database.setting("token_key")
        if key is None:
            key = secrets.token_hex(32)
            database.set_setting("token_key", key)
        self._key, self._clock = bytes.fromhex(key), clock

    def give(self, kind: str, *, expires_ms: int, **claims: str) -> str:
        """Return a new token that holds ``claims``."""
        content = {"kind": kind, "expires": expires_ms, "once": secrets.token_hex(8), **claims}
        payload = base64.urlsafe_b64encode(json.dumps(content).encode()).decode()
        return f"4_{payload}.{self._signature(payload)}"

    def read(self, token: str, *kinds: str) -> Json:
        """Return what a token holds; raise if it is not of ``kinds``, or its time is over."""
        payload, _, signature = token.removeprefix("4_").partition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(payload).encode()):
            raise bad_auth_token()
        claims: Json = json.loads(base64.urlsafe_b64decode(payload))
        if claims["kind"] not in kinds:
            raise bad_auth_token()
        if claims["expires"] <= self._clock.now_ms():
            raise expired_auth_token()
        return claims

    def _signature(self, payload: str) -> str:
        return hmac.new(self._key, payload.encode(), hashlib.sha256).hexdigest()
