from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from delivery import exemptions
from delivery.policies import finding, policies
from delivery.verdict import Exemption

if TYPE_CHECKING:
    from pathlib import Path


def read(tree: Path, text: str) -> tuple[list[Exemption], list[str]]:
    (tree / "a.py").write_text(text)
    found, wrong = exemptions.read(tree, ["a.py"])
    return found, [f"{each.line} {each.what}" for each in wrong]


@pytest.mark.parametrize(
    "line",
    [
        "# gate: allow owner because it is everybody's",
        "x = 1  # gate: allow owner because it is everybody's",
        "-- gate: allow owner because it is everybody's",
        "<!-- gate: allow owner because it is everybody's -->",
        "  \"# gate: allow owner because it is everybody's",
    ],
)
def test_a_line_with_a_reason_allows_a_policy_in_its_file(tmp_path: Path, line: str) -> None:
    found, wrong = read(tmp_path, f"\n{line}\n")
    assert found == [Exemption("a.py", 2, "owner", "it is everybody's")]
    assert wrong == []
    against = [finding("owner", "a.py", "no"), finding("tags", "a.py", "no"),
               finding("owner", "b.py", "no")]  # fmt: skip
    assert exemptions.apply(against, found) == (against[1:], found)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("# gate: allow owner", "without a reason"),
        ("# gate: allow owner because", "without a reason"),
        ("# gate: allow", "allows '', which is none of credential, lookup, owner"),
        ("# gate: allow import because I want to", "allows 'import', which is none of"),
        ("# gate: allow import-time because I want to", "which is none of"),
        ("# gate: allow everything because I want to", "which is none of"),
    ],
)
def test_a_line_that_allows_nothing_is_told_so(tmp_path: Path, line: str, reason: str) -> None:
    found, (wrong,) = read(tmp_path, line)
    assert found == []
    assert reason in wrong


def test_a_text_about_such_lines_allows_nothing_and_is_no_fault(tmp_path: Path) -> None:
    assert read(tmp_path, "Write `# gate: allow RULE because REASON` there.") == ([], [])


def test_what_is_not_used_is_not_listed() -> None:
    unused = [Exemption("a.py", 1, "owner", "why")]
    assert exemptions.apply([], unused) == ([], [])


def test_every_rule_says_why_it_is_there_and_how_to_put_it_right() -> None:
    for rule in policies().values():
        assert rule.why.endswith(".")
        assert rule.how.endswith(".")
