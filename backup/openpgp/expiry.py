"""Until when the keys serve: a backup fails that cannot be encrypted, or cannot be signed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from backup.openpgp.crypt import private_key, public_keys
from backup.openpgp.key import EVER
from backup.settings import MANIFEST_RECIPIENT, RECIPIENTS, SIGNING_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from backup.openpgp.key import Key, Use
    from backup.openpgp.signature import Signers
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
    settings: Settings,
    now: datetime,
    days: int = WARN_DAYS,
    *,
    signing: Mapping[str, str] | None = None,
    signers: Signers | None = None,
) -> Iterator[KeyState]:
    """Yield how each key is that the secret files hold, ``days`` before gpg would not use it.

    ``signing`` tells the fingerprint of the key that each job signs with now: of the public keys
    of ``signers``, which keep old ones, it is these that matter.
    """
    soon = now + timedelta(days=days)
    for name, use in ((RECIPIENTS, "encrypts"), (MANIFEST_RECIPIENT, "encrypts manifests")):
        if (armoured := settings.secret_path(name)).exists():
            with public_keys(armoured) as ring:
                for key in ring.keys:
                    yield _state(use, key, "e", soon)
    if (own := settings.secret_path(SIGNING_KEY)).exists():
        with private_key(own) as ring:
            for key in ring.keys:
                yield _state("signs", key, "s", soon)
    for entry, fingerprint in (signing or {}).items():
        for key in signers.keys(entry) if signers else ():
            if key.fingerprint == fingerprint:
                yield _state(f"signs {entry}", key, "s", soon)


def longest_signing(keys: Iterable[Key]) -> str | None:
    """Return the fingerprint of the key that signs for longest, None if none does."""
    ends = {key.fingerprint: until for key in keys if (until := key.until("s"))}
    return max(ends, key=ends.__getitem__, default=None)


def _state(name: str, key: Key, use: Use, soon: datetime) -> KeyState:
    until = key.until(use)
    return KeyState(
        use=name,
        fingerprint=key.fingerprint,
        expires=None if until in (None, EVER) else f"{until:%Y-%m-%d}",
        state="expired, revoked or of another kind"
        if until is None
        else "expires soon"
        if until < soon
        else "well",
    )
