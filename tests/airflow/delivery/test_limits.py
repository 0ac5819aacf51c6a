from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery import limits

OBJECT = "b" * 40


def listing(*entries: tuple[str, str, bytes]) -> bytes:
    return b"".join(
        f"{mode} {'commit' if mode == '160000' else 'blob'} {OBJECT} {size:>7}\t".encode()
        + path + b"\0"
        for mode, size, path in entries
    )  # fmt: skip


def check(*entries: tuple[str, str, bytes], files: int = 10, size: int = 1000) -> list[str]:
    found = list(limits.entries(listing(*entries)))
    findings = limits.check(found, {}, max_files=files, max_bytes=size)
    return [f"{finding.file}: {finding.what}" for finding in findings]


@pytest.mark.parametrize(
    ("mode", "path", "reason"),
    [
        ("120000", b"dags/a.py", "symbolic link leads to no path"),
        ("160000", b"lib", "submodules"),
        ("040000", b"lib", "not that of a file"),
        ("100644", b"dags/../../etc/passwd", ".."),
        ("100644", b"./a", ".."),
        ("100644", b"a//b", ".."),
        ("100644", b".git/hooks/post-checkout", ".git"),
        ("100644", b"sub/.GIT/config", ".git"),
        ("100644", b"a\nb.py", "control"),
        ("100644", b"a\x1b[31m.py", "control"),
        ("100644", "a\u202ebc.py".encode(), "control"),
        ("100644", b"a\\b.py", "backslash"),
        ("100644", b"a\xff.py", "UTF-8"),
        ("100644", b"a" * 251, "longer than"),
        ("100644", b"include/names.pyc", "without its text"),
        ("100644", b"a/" * 12 + b"a", "deeper than"),
        ("100644", b"pipelines/hr.yml", "rename it"),
        ("100644", b"pipelines/old/hr.yaml", "move it"),
    ],
)
def test_an_entry_that_may_not_be_is_named(mode: str, path: bytes, reason: str) -> None:
    (said,) = check((mode, "-" if mode == "160000" else "3", path))
    assert reason in said


@pytest.mark.parametrize(
    "path",
    [b"dags/a.py", b".gitignore", b".gitattributes", "données/Ɛsɛ.sql".encode(),
     b"pipelines/hr.yaml", b"pipelines/README.md", b"conf/x.yml",
     b"include/__pycache__/names.cpython-311.pyc"],
)  # fmt: skip
def test_an_ordinary_file_passes(path: bytes) -> None:
    assert check(("100644", "3", path), ("100755", "3", b"run.sh")) == []


def test_of_too_many_files_the_fullest_folder_is_named() -> None:
    said = check(("100644", "1", b"a"), *[("100644", "1", b"raw/%d" % n) for n in range(10)])
    assert said == ["raw: 11 files, at most 10 are taken: 10 of them lie here"]


def test_of_too_many_bytes_the_largest_files_are_named_until_the_rest_fits() -> None:
    sizes = {b"a": "600", b"b": "500", b"c": "400", b"d": "300"}
    said = check(*[("100644", size, path) for path, size in sizes.items()])
    assert said == [
        "a: 600 bytes of 1800 in all, at most 1000 are taken",
        "b: 500 bytes of 1800 in all, at most 1000 are taken",
    ]


def test_all_that_is_wrong_is_said_at_once() -> None:
    said = check(
        ("160000", "-", b"lib"), ("100644", "2000", b"a"), ("100644", "1", b"b"),
        ("100644", "1", b"b"), ("100644", "1", b"pipelines/x.yml"),
    )  # fmt: skip
    assert [line.partition(":")[0] for line in said] == ["lib", "b", "a", "pipelines/x.yml"]


@pytest.mark.parametrize("second", [b"a", b"a/b"])
def test_a_path_that_is_there_twice_is_named(second: bytes) -> None:
    assert check(("100644", "1", b"a"), ("100644", "1", second)) == ["a: the path is there twice"]


@given(st.binary(max_size=300).filter(lambda raw: b"\0" not in raw and raw))
def test_what_passes_is_a_plain_path_inside_the_tree(path: bytes) -> None:
    if check(("100644", "1", path), files=1, size=1):
        return
    text = path.decode()
    assert text.isprintable() or all(not c.isspace() or c == " " or c > "\x7f" for c in text)
    assert not text.startswith("/")
    assert not {"", ".", "..", ".git"} & set(text.lower().split("/"))


@pytest.mark.parametrize(
    ("path", "is_one"),
    [(b"pipelines/hr.yaml", True), (b"pipelines/a/hr.yaml", False), (b"dags/hr.yaml", False),
     (b"pipelines/hr.py", False), (b"containers/hr.yaml", True), (b"containers/.yaml", False),
     (b"containers", False), (b"containers/a/hr.yaml", False)],
)  # fmt: skip
def test_only_yaml_files_directly_in_their_folders_are_the_platforms_to_run(
    path: bytes, is_one: bool
) -> None:
    assert limits.is_bundled(path) is is_one
