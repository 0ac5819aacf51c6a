from __future__ import annotations

import pytest

from scripts.licences.spdx import is_open

OPEN = {"MIT", "Apache-2.0", "GPL-2.0-only"}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("BUSL-1.1", False),
        ("MIT OR BUSL-1.1", True),
        ("BUSL-1.1 OR MIT", True),
        ("BUSL-1.1 OR Elastic-2.0", False),
        ("MIT AND Apache-2.0", True),
        ("MIT AND BUSL-1.1", False),
        ("BUSL-1.1 AND MIT", False),
        # AND binds tighter than OR.
        ("MIT OR Apache-2.0 AND BUSL-1.1", True),
        ("BUSL-1.1 AND MIT OR Apache-2.0", True),
        ("(MIT OR Apache-2.0) AND BUSL-1.1", False),
        ("(MIT OR BUSL-1.1) AND (Elastic-2.0 OR Apache-2.0)", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", True),
        ("BUSL-1.1 WITH Classpath-exception-2.0", False),
    ],
)
def test_an_expression_is_open_if_its_open_parts_suffice(expression: str, expected: object) -> None:
    assert is_open(expression, OPEN) is expected


@pytest.mark.parametrize(
    "text",
    ["", "MIT MIT", "MIT OR", "OR MIT", "(MIT", "MIT)", "()", "MIT WITH", "MIT, Apache-2.0",
     "All rights reserved", "mit"],
)  # fmt: skip
def test_what_is_no_expression_is_not_open(text: str) -> None:
    assert not is_open(text, OPEN)
