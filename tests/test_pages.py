from __future__ import annotations

import ast

from scripts.repository import ROOT
from tests.pages import blocks

# What stands on the page, and why no test types it.
NOT_TYPED = {
    ("Images", 0): "a registry to push to; scripts/local/images.py builds the same files",
    ("Images", 1): "an archive with other versions of PostgreSQL",
}


def typed() -> set[tuple[str, int]]:
    """Return the heading and the number of each block that a test asks for by both."""
    found = set()
    for file in ROOT.glob("tests/**/test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            words = [each.value for each in node.args if isinstance(each, ast.Constant)]
            if node.func.id == "block":
                heading, number = words
                found.add((str(heading), int(str(number))))
            elif node.func.id == "section":
                (heading,) = words
                found |= {(str(heading), number) for number in range(len(blocks()[str(heading)]))}
    return found


def test_every_block_of_the_runbook_is_typed_by_a_test_or_says_why_not() -> None:
    there = {(heading, number) for heading, each in blocks().items() for number in range(len(each))}
    assert len(there) > 50
    assert there - typed() - NOT_TYPED.keys() == set(), "type them in tests/soak/test_runbook.py"
    assert typed() - there == set()
    assert NOT_TYPED.keys() - there == set()
    assert NOT_TYPED.keys() & typed() == set()
