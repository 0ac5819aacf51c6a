from __future__ import annotations

import json
import os
import unicodedata
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from delivery import verdict
from delivery.verdict import Finding, Verdict

if TYPE_CHECKING:
    from pathlib import Path


@given(st.text(st.characters(codec=None), max_size=2000), st.integers(1, 400))
def test_cleaned_text_is_one_bounded_line_without_control_characters(text: str, limit: int) -> None:
    line = verdict.clean(text, limit)
    assert len(line) <= limit
    assert not any(unicodedata.category(c).startswith("C") for c in line)
    line.encode()


def test_text_in_any_script_stays_as_it_is() -> None:
    assert verdict.clean("Ɛyɛ papa - 学校 مدرسة") == "Ɛyɛ papa - 学校 مدرسة"


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=5)
            | st.dictionaries(
                st.sampled_from(["file", "line", "rule", "what", "how", "trace", "x"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_findings_from_any_json_are_findings(value: object) -> None:
    for finding in verdict.findings_from(value):
        assert isinstance(finding.file, str)
        assert finding.what
        assert finding.line >= 0
        assert len(finding.trace) <= verdict.MAX_TRACE


def test_findings_beyond_the_bound_are_counted() -> None:
    found = verdict.bounded(
        [Finding("a", n, "tree", "no") for n in range(verdict.MAX_FINDINGS + 30)]
    )
    assert len(found) == verdict.MAX_FINDINGS
    assert found[0].what == "31 more findings were left out"


def test_a_verdict_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    made = Verdict("a" * 40, "refused", "why", True, 1, "2026-11-21T00:00:00+00:00", "b" * 40,
                   (Finding("dags/a.py", 3, "import", "no", "mend", ("x", "y")),))  # fmt: skip
    verdict.store(tmp_path / "verdict.json", made)
    assert verdict.load(tmp_path / "verdict.json") == made
    assert json.loads((tmp_path / "verdict.json").read_text())["verdict"] == "refused"
    assert [path.name for path in tmp_path.iterdir()] == ["verdict.json"]


def test_what_strangers_lay_in_the_way_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_text('"' + "x" * verdict.MAX_FILE + '"')
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "digits").write_text("1" * 100_000)
    for name in ("link", "pipe", "folder", "long", "deep", "digits", "absent"):
        assert verdict.read_json(tmp_path / name) is None, name
    assert verdict.read_json(tmp_path / "real") == {}


def test_writing_replaces_a_link_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("untouched")
    (tmp_path / "findings.json").symlink_to(tmp_path / "real")
    verdict.write_json(tmp_path / "findings.json", [])
    assert (tmp_path / "real").read_text() == "untouched"
    assert not (tmp_path / "findings.json").is_symlink()
