from __future__ import annotations

import json
from typing import TYPE_CHECKING

from frame.output import print_json, screen, table

if TYPE_CHECKING:
    import pytest

HOSTILE = "a\x1b[2Jb\x9b31m\x7f"


def test_what_steers_a_terminal_is_shown_and_does_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Such as a table's name in somebody's database."""
    rows = table("name")
    rows.add_row(HOSTILE)
    out = screen()
    out.print(rows)
    out.print(HOSTILE, style="red", markup=False)
    print_json([HOSTILE])
    said = capsys.readouterr().out
    assert all(each.isprintable() or each == "\n" for each in said)
    assert said.count("a\\x1b[2Jb\\x9b31m\\x7f") == 2
    assert json.loads(said[said.index("[\n") :]) == [HOSTILE]
