from __future__ import annotations

from datetime import UTC, datetime, timedelta

from backup.openpgp.expiry import longest_signing
from backup.openpgp.key import Key, Part

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def signing(fingerprint: str, days: float, *, valid: bool = True) -> Key:
    return Key((Part(fingerprint, "s" if valid else "", valid, NOW + timedelta(days=days)),))


def test_of_the_keys_of_one_signer_it_is_the_last_that_matters() -> None:
    """Those of before stay in the file, for what they signed."""
    keys = [signing("OLD", 5), signing("NEW", 90), signing("REVOKED", 900, valid=False)]
    assert longest_signing(keys) == "NEW"
    assert longest_signing([]) is None
