"""Lines by which a file departs from a policy: ``# gate: allow RULE because REASON``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from delivery.policies import finding, policies
from delivery.verdict import Exemption, clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from delivery.verdict import Finding

# After a comment's sign of Python, YAML, SQL, Markdown or a notebook's cell.
_LINE = re.compile(
    rb"(?:#|--|//|<!--|\{#)\s*gate:\s*allow\b\s*([\w-]*)(?:\s+because\s+(\S[^\r\n]*))?"
)
_MARK = b"gate:"
_ANY = b"RULE"  # as the hints and their copies write of such lines


def read(root: Path, files: Iterable[str]) -> tuple[list[Exemption], list[Finding]]:
    """Return the exemptions of the files, and what is wrong with some of them."""
    found, wrong = [], []
    for file in files:
        content = (root / file).read_bytes()
        if _MARK not in content:
            continue
        for number, line in enumerate(content.splitlines(), 1):
            if not (match := _LINE.search(line)) or match[1] == _ANY:
                continue
            rule = match[1].decode(errors="replace")
            because = clean((match[2] or b"").decode(errors="replace")).removesuffix("-->").strip()
            if rule not in policies() or not policies()[rule].exempt:
                names = ", ".join(sorted(each.name for each in policies().values() if each.exempt))
                what = f"it allows {rule!r}, which is none of {names}"
                wrong.append(finding("exemption", file, what, line=number))
            elif not because:
                what = f"it allows {rule!r} without a reason"
                wrong.append(finding("exemption", file, what, line=number))
            else:
                found.append(Exemption(clean(file), number, rule, because))
    return found, wrong


def apply(
    findings: Sequence[Finding], exemptions: Iterable[Exemption]
) -> tuple[list[Finding], list[Exemption]]:
    """Return the findings that no exemption of their file covers, and the exemptions that do."""
    covering: dict[tuple[str, str], list[Exemption]] = {}
    for exemption in exemptions:
        covering.setdefault((exemption.file, exemption.rule), []).append(exemption)
    left = [each for each in findings if (each.file, each.rule) not in covering]
    used = {each for found in findings for each in covering.get((found.file, found.rule), [])}
    return left, sorted(used)
