"""Until when the keys serve: a backup fails that cannot be encrypted, or cannot be signed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from backup.openpgp.crypt import Key, private_key, public_keys
from backup.openpgp.signature import Signers
from backup.settings import RECIPIENTS, SIGNING_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from backup.settings import Settings

WARN_DAYS = 60


class KeyState(BaseModel):
    """One key: what it is for, until when it serves (a date; None: for ever), and how it is."""

    model_config = ConfigDict(frozen=True)

    use: str
    fingerprint: str
    expires: str | None
    state: Literal["well", "expires soon", "expired, revoked or of another kind"]

    @property
    def well(self) -> bool:
        """Whether nothing is to be done about it."""
        return self.state == "well"


def key_states(
    settings: Settings, signing: Mapping[str, str], now: datetime, days: int = WARN_DAYS
) -> Iterator[KeyState]:
    """Yield how each key is that the secret files hold, ``days`` before it expires.

    ``signing`` tells the fingerprint of the key that each entry signs with now: of the public keys
    that signatures are held against, which keep old ones, it is these that matter.
    """
    soon = now + timedelta(days=days)
    if (recipients := settings.secret_path(RECIPIENTS)).exists():
        with public_keys(recipients) as ring:
            for key in ring.keys:
                yield _state("encrypts", key, serves=key.encrypts, soon=soon)
    if (own := settings.secret_path(SIGNING_KEY)).exists():
        with private_key(own) as ring:
            for key in ring.keys:
                yield _state("signs", key, serves=key.signs, soon=soon)
    for entry, fingerprint in signing.items():
        for key in Signers.of(settings).keys(entry):
            if key.fingerprint == fingerprint:
                yield _state(f"signs {entry}", key, serves=key.signs, soon=soon)


def _state(use: str, key: Key, *, serves: bool, soon: datetime) -> KeyState:
    return KeyState(
        use=use,
        fingerprint=key.fingerprint,
        expires=f"{key.expires.astimezone(UTC):%Y-%m-%d}" if key.expires else None,
        state="expired, revoked or of another kind"
        if not serves
        else "expires soon"
        if key.expires and key.expires < soon
        else "well",
    )
