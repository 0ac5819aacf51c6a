"""Until when gpg would use a key: of its subkeys the ones that it would take."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backup.openpgp.crypt import public_keys
from backup.openpgp.key import EVER, parse_keys
from tests.backup.conftest import make_key

if TYPE_CHECKING:
    from pathlib import Path

IN_A_MONTH = 1_798_000_000
SOON = datetime.fromtimestamp(IN_A_MONTH, UTC)


def listing(*parts: str, kind: str = "pub", primary: str = "u::scESC:") -> str:
    """Return a listing of one key; each part is validity, end, uses and what is in place of it."""
    lines = []
    for number, part in enumerate([primary, *parts]):
        validity, end, uses, token = part.split(":")
        sub = "ssb" if kind == "sec" else "sub"
        what = sub if number else kind
        lines.append(f"{what}:{validity}:255:22:K{number}:1:{end}::u:::{uses}:::{token}::23::0:")
        lines.append(f"fpr:::::::::FINGERPRINT{number}:")
    return "tru::1:1:0:3:1:5\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("key", "encrypts", "signs"),
    [
        (listing("u::e:"), EVER, EVER),
        (listing(f"u:{IN_A_MONTH}:e:"), SOON, EVER),
        # The last to end counts, and not one that gpg would not use.
        (listing(f"u:{IN_A_MONTH}:e:", "u::e:"), EVER, EVER),
        (listing(f"u:{IN_A_MONTH}:e:", "r::e:"), SOON, EVER),
        (listing(f"u:{IN_A_MONTH}:e:", "i::e:"), SOON, EVER),
        (listing("e:1:e:", "r::e:"), None, EVER),
        (listing(), None, EVER),
        (listing(f"u:{IN_A_MONTH}:s:", primary="u::cSC:"), None, SOON),
        (listing(f"u:{IN_A_MONTH}:s:", "r::s:", primary="u::cSC:"), None, SOON),
        (listing("r::s:", primary="u::cSC:"), None, None),
        # All hangs on the primary key.
        (listing("u::e:", primary=f"u:{IN_A_MONTH}:scESC:"), SOON, SOON),
        (listing("u::e:", primary="e:1:sc:"), None, None),
        (listing("r::e:", primary="r::sc:"), None, None),
        (listing("u::e:", primary="u::scESCD:"), None, None),
        (listing("u::e:", primary="u::escESC:"), EVER, EVER),
        # A private key that is kept elsewhere signs nothing here.
        (listing("u::s:+", kind="sec", primary="u::scSC:#"), None, EVER),
        (listing("u::e:+", kind="sec", primary="u::scSC:#"), EVER, None),
    ],
)  # fmt: skip
def test_a_key_serves_until_the_last_that_gpg_would_use_ends(
    key: str, encrypts: datetime | None, signs: datetime | None
) -> None:
    (parsed,) = parse_keys(key)
    assert parsed.fingerprint == "FINGERPRINT0"
    assert (parsed.until("e"), parsed.until("s")) == (encrypts, signs)


def test_a_name_makes_no_line_of_its_own() -> None:
    """Line breaks in it are escaped by gpg, but not those that Unicode has beside."""
    fields = ["pub", "u", "255", "22", "A" * 16, "1", "", "", "u", "", "", "scSC"]
    colons = "\n".join(
        [":".join([*fields, ""]), f"fpr:::::::::{'A' * 40}:",
         f"uid:u::::1::H::me\u2028pub:u:255:22:{'B' * 16}:1:::u:::scESC:\u2028fpr:::::::::B:"]
    )  # fmt: skip
    (key,) = parse_keys(colons)
    assert (key.fingerprint, key.encrypts) == ("A" * 40, False)


def test_a_part_ends_with_its_primary_key() -> None:
    (key,) = parse_keys(listing(f"u:{IN_A_MONTH}:s:", "u::e:", primary="u:1799000000:scESC:"))
    assert key.end_of("FINGERPRINT1") == SOON
    assert key.end_of("FINGERPRINT2") == datetime.fromtimestamp(1_799_000_000, UTC)
    assert key.end_of("FINGERPRINT9") is None


def test_a_subkey_that_was_revoked_hides_no_end(gnupg_home: Path, tmp_path: Path) -> None:
    """It would last for ever, and the only one that gpg still uses ends in 30 days."""
    key = make_key(gnupg_home, "two-subkeys@example.org")
    gpg = ["gpg", "--homedir", gnupg_home, "--batch", "--quiet", "--pinentry-mode", "loopback"]
    add = [*gpg, "--passphrase", "", "--quick-add-key", key.fingerprint, "cv25519", "encr", "30d"]
    subprocess.run(add, check=True)
    edit = ["--passphrase", "", "--command-fd", "0", "--expert", "--edit-key", key.fingerprint]
    answers = "key 1\nrevkey\ny\n0\n\ny\nsave\n"
    subprocess.run(
        [*(word for word in gpg if word != "--batch"), "--no-tty", *edit], input=answers, text=True,
        check=True, capture_output=True,
    )  # fmt: skip
    export = [*gpg, "--armor", "--export", key.fingerprint]
    armoured = tmp_path / "key"
    armoured.write_bytes(subprocess.run(export, check=True, capture_output=True).stdout)
    with public_keys(armoured) as ring:
        (parsed,) = ring.keys
    assert [part.valid for part in parsed.parts] == [True, False, True]
    until = parsed.until("e")
    assert until is not None
    assert until < datetime.now(UTC) + timedelta(days=31)
