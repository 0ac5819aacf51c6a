from __future__ import annotations

import pytest

from backup.complaints import MOST, complaints


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ()),
        ("pg_dump: warning: subscriptions not dumped because current user is not a superuser\n",
         ("pg_dump: warning: subscriptions not dumped because current user is not a superuser",)),
        ("pg_dump: warning: there are circular foreign-key constraints on this table:\n"
         "pg_dump: detail: people\n"
         "pg_dump: hint: You might not be able to restore the dump without --disable-triggers.\n",
         ("pg_dump: warning: there are circular foreign-key constraints on this table:",
          "pg_dump: detail: people")),
        ('WARNING:  database "hr" has a collation version mismatch\n'
         "DETAIL:  The database was created using 2.31.\nHINT:  Rebuild.\n",
         ('pg_dump: WARNING: database "hr" has a collation version mismatch',)),
        ("NOTICE:  Kofi Mensah earns 4711\nand his password is hush\nCONTEXT:  login()\n",
         ("pg_dump: NOTICE: a message of the server's (…)",)),
        ("[GNUPG:] KEY_CONSIDERED x\n\n", ()),
        ("something else\n", ("pg_dump: something else",)),
        ("something else\nsomething else\n", ("pg_dump: something else",)),
    ],
)  # fmt: skip
def test_what_a_child_said_is_kept_without_what_nobody_may_read(
    text: str, kept: tuple[str, ...]
) -> None:
    assert complaints("pg_dump", text) == kept


def test_a_child_that_does_not_stop_complaining_is_cut_short() -> None:
    lines = complaints("zstd", "\n".join(f"zstd: warning {n}" for n in range(MOST + 7)))
    assert len(lines) == MOST + 1
    assert lines[-1] == "zstd: and 7 lines more"
