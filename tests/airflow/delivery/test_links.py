"""Where links lead: into the push, to a file, or they are refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery import limits, links
from delivery.limits import Entry

if TYPE_CHECKING:
    from pathlib import Path

FILES = (b"README.md", b"dags/a.py", b"dags/lib/sql/q.sql")


def push(**targets: str) -> list[Entry]:
    """Return the entries of a push with FILES and a link a keyword, in dags/."""
    made = [Entry("100644", "f" * 40, 100, path) for path in FILES]
    return made + [
        Entry("120000", name, len(target), f"dags/{name}".encode())
        for name, target in targets.items()
    ]


def refused(**targets: str) -> dict[str, str]:
    """Return what is said of each link."""
    raw = {name: target.encode() for name, target in targets.items()}
    found = limits.check(push(**targets), raw, max_files=50, max_bytes=10_000)
    return {finding.file: finding.what for finding in found}


@pytest.mark.parametrize(
    "target",
    ["a.py", "./a.py", "../README.md", "lib/sql/q.sql", "lib/../a.py", "..//dags/./a.py"],
)
def test_a_link_to_a_file_of_the_push_is_taken(target: str) -> None:
    assert refused(b=target) == {}


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("/etc/passwd", "leads to /etc/passwd, which is not in the push"),
        ("../../etc/passwd", "leads to ../../etc/passwd, which is not in the push"),
        ("../../dags/a.py", "not in the push"),
        ("../.git/config", "no such folder"),
        ("nothing.py", "leads to nothing.py, which is not in the push"),
        ("lib/none/../../a.py", "no such folder"),
        ("a.py/../a.py", "no such folder"),
        ("a.py/", "no such folder"),
        ("b", "loop"),
        ("lib", "leads to lib, a folder"),
        ("..", "leads to .., a folder"),
        ("", "no path"),
        ("a.py\0", "no path"),
    ],
)
def test_a_link_to_anything_else_is_refused_with_where_it_leads(target: str, reason: str) -> None:
    assert reason in refused(b=target)["dags/b"]


def test_links_lead_through_links_and_not_through_loops_or_long_chains() -> None:
    assert refused(b="c", c="d", d="a.py") == {}
    assert set(refused(b="c", c="b")) == {"dags/b", "dags/c"}
    chain = {f"l{n}": f"l{n + 1}" for n in range(11)} | {"l11": "a.py"}
    assert set(refused(**chain)) == {"dags/l0", "dags/l1"}


def test_what_is_read_through_links_counts_as_their_size() -> None:
    raw = {f"l{n}": "a.py" for n in range(5)}
    found = limits.check(push(**raw), {name: b"a.py" for name in raw}, max_files=50, max_bytes=700)
    assert [finding.what for finding in found] == ["100 bytes of 800 in all, at most 700 are taken"]


@pytest.mark.parametrize("folder", ["dashboards", "models/marts"])
def test_what_is_read_without_a_checkout_may_not_be_a_link(folder: str) -> None:
    target = "../" * (folder.count("/") + 1) + "README.md"
    link = Entry("120000", "link", len(target), f"{folder}/a.yaml".encode())
    entries = [*push(), link]
    found = limits.check(entries, {"link": target.encode()}, max_files=50, max_bytes=10_000)
    assert [finding.what for finding in found] == [
        "no link is followed here: put the file itself there"
    ]


PARTS = st.sampled_from(["..", ".", "", "dags", "lib", "sql", "a.py", "q.sql", "README.md", "b"])


@given(st.lists(PARTS, min_size=1, max_size=6).map("/".join), st.sampled_from(["a.py", "..", "b"]))
def test_what_is_taken_is_what_the_kernel_opens_inside_the_push(
    tmp_path_factory: pytest.TempPathFactory, target: str, other: str
) -> None:
    tree: Path = tmp_path_factory.mktemp("push")
    for path in FILES:
        (tree / path.decode()).parent.mkdir(parents=True, exist_ok=True)
        (tree / path.decode()).write_bytes(path)
    raw = {"b": other, "c": target}
    said = refused(**raw)
    for name, to in raw.items():
        if to:
            os.symlink(to, tree / "dags" / name)
    if "dags/c" in said:
        return
    entries = push(**raw)
    read = links.Tree.of(entries, {n: t.encode() for n, t in raw.items()}).file(entries[-1])
    assert (tree / "dags/c").read_bytes() == read.path
