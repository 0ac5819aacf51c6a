"""What the pages show, whatever strangers wrote."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from delivery.verdict import Finding, clean
from frame.failure import Failure
from harmattan.overview import pages
from harmattan.overview.remembered import Known
from tests.airflow.harmattan.overview.examples import (
    FINDINGS,
    GOOD,
    NOW,
    REFUSED,
    WRONG,
    backups,
    night,
    report,
)

# What the page itself goes by; all else is text of somebody.
OWN = {
    "at",
    "made",
    "drilled",
    "outcome",
    "status",
    "commit",
    "time",
    "written",
    "seen",
    "failing",
    "committed",
}


class Read(HTMLParser):
    """A page as a browser takes it: its elements with the names of their attributes, its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def filled(value: Any, text: str) -> Any:
    """Return ``value`` with each string of strangers' replaced by ``text``."""
    if is_dataclass(value) and not isinstance(value, type):
        changed = {
            each.name: filled(getattr(value, each.name), text)
            for each in fields(value)
            if each.name not in OWN
        }
        return replace(value, **changed)
    if isinstance(value, tuple | list):
        return type(value)(filled(each, text) for each in value)
    if isinstance(value, dict):  # the files of each commit
        return {commit: dict.fromkeys([text], mark) for mark, commit in enumerate(value)}
    return text if isinstance(value, str) and value else value


def rendered(text: str) -> list[Read]:
    told, slept, kept = (filled(each, text) for each in (report(), night(), backups()))
    gate = Known(told, NOW, Failure(text, "x"))
    return [
        Read(pages.overview(gate, Known(slept, NOW, Failure(text, "x")), kept, NOW)),
        *(Read(pages.commit(gate, sync, told.syncs[0], NOW)) for sync in told.syncs[:3]),
    ]


MARKUP = st.sampled_from(
    ["<", ">", "&", '"', "'", "</td>", "<script>", "<!--", "-->", "]]>", "&lt;", "\u202e", "\u2028",
     "javascript:", " onclick=", "{{", "}}", "{%", "\x00", "\x1b[31m", "<bdi>", "</bdi>", "`"]
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(MARKUP | st.text(max_size=8), min_size=1, max_size=12).map("".join))
def test_whatever_strangers_wrote_is_text_and_nothing_else(text: str) -> None:
    harmless = rendered("x")
    for read, expected in zip(rendered(f"x{text}"), harmless, strict=True):
        assert read.elements == expected.elements
        assert clean(f"x{text}").strip() in read.text


def test_the_first_page_says_what_is_live_since_when_and_what_was_refused() -> None:
    gate = Known(report(), NOW)
    text = " ".join(Read(pages.overview(gate, Known(night(), NOW), backups(), NOW)).text.split())
    for said in (
        "a1a1a1a1a1 since 2026-11-24 09:30 UTC 3 d ago",
        "Pinned to a1a1a1a1a1 since 2026-11-26 13:30 UTC 20 h ago: the newest counts pupils twice",
        "last looked at 2026-11-27 09:28 UTC 2 min ago",
        "✗ refused 2026-11-27 08:48 UTC 42 min ago Ama Mensah"
        " 3 findings dags/absences.py 2 line 12 retries task fetch reaches out and has 0 retries",
        "service_desk ✗ failed",
        "11 1 failed 32,694",
        "40117, 40118, 40120",
        "and 11 more",
        "hr ✓ well 1 notice 2026-11-27 03:00 UTC 6 h ago 138.4 kB 2026-11-02 04:00 UTC 25 d ago",
        "records ✗ stale, drill failed",
    ):
        assert said in text
    assert text.count("● live") == 1


def test_what_does_not_work_is_said_beside_what_is_known() -> None:
    away = Known(report(), NOW, Failure("git ls-remote took longer than 3 s", "x"))
    text = Read(pages.overview(away, None, None, datetime(2026, 11, 27, 11, 0, tzinfo=UTC))).text
    assert "The mirror does not answer. What follows was read 2026-11-27 09:30" in " ".join(
        text.split()
    )
    assert "git ls-remote took longer than 3 s" in text
    assert "rounds are missing" in text
    assert "The night" not in text
    assert "Backups and drills" not in text
    old = pages.overview(
        Known(report(), NOW), None, replace(backups(), at="2026-11-25T03:00:00Z"), NOW
    )
    assert "Nothing newer was reported" in old
    nothing = Known[Any](None, None, Failure("git ls-remote failed with 128", "x"))
    assert "Nothing can be shown until it does" in pages.overview(nothing, nothing, None, NOW)
    failing = replace(report(), look=replace(report().look, failing=NOW.isoformat()))
    assert "not reached" in pages.overview(Known(failing, NOW), None, None, NOW)
    assert "has not run yet" in pages.overview(Known(type(failing)(), NOW), None, None, NOW)


def test_a_commits_page_compares_its_findings_with_anothers() -> None:
    told = report()
    gate = Known(told, NOW)
    refused, wrong = told.syncs[0], told.syncs[1]
    text = " ".join(Read(pages.commit(gate, wrong, refused, NOW)).text.split())
    assert "findings 3 gone, 0 new, 0 the same" in text
    assert "files 0 added, 1 changed, 1 removed" in text
    assert "Files changed 1 dags/absences.py Files removed 1 include/terms.py" in text
    long = " ".join(Read(pages.commit(gate, told.syncs[2], wrong, NOW)).text.split())
    assert "files 121 added, 0 changed, 1 removed" in long
    assert "and 21 more" in long
    unlisted = " ".join(Read(pages.commit(gate, told.syncs[3], wrong, NOW)).text.split())
    assert "which files differ is not known" in unlisted
    assert "not live; live is a1a1a1a1a1" in text
    assert "1 exemption dags/mail.py line 7 retries a second mail" in text
    assert [each.verdict.commit for each in (refused, wrong, told.syncs[4])] == [
        REFUSED, WRONG, GOOD]  # fmt: skip
    moved = [replace(FINDINGS[0], line=99), Finding("a.py", 1, "id", "taken")]
    found = pages.difference(FINDINGS, moved)
    assert (found.gone, found.new, found.same) == (FINDINGS[1:], tuple(moved[1:]), 1)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "just now"), (1, "1 s ago"), (119, "119 s ago"), (120, "2 min ago"), (7200, "2 h ago"),
     (200_000, "2 d ago")],
)  # fmt: skip
def test_an_age_is_said_as_people_do(seconds: int, said: str) -> None:
    assert pages.age(datetime.fromtimestamp(NOW.timestamp() - seconds, UTC), NOW) == said


@pytest.mark.parametrize(
    "text", ["", "soon", "99999-01-01T00:00:00+00:00", "0001-01-01T00:00:00+14:00"]
)
def test_a_time_that_is_none_is_not_known(text: str) -> None:
    assert pages.moment(text) is None
    assert pages.age(text, NOW) == ""
