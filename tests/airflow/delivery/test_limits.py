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
    found = limits.check(listing(*entries), max_files=files, max_bytes=size)
    return [f"{finding.file}: {finding.message}" for finding in found]


@pytest.mark.parametrize(
    ("mode", "path", "reason"),
    [
        ("120000", b"dags/a.py", "symbolic links"),
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
     b"pipelines/hr.yaml", b"pipelines/README.md", b"conf/x.yml"],
)  # fmt: skip
def test_an_ordinary_file_passes(path: bytes) -> None:
    assert check(("100644", "3", path), ("100755", "3", b"run.sh")) == []


def test_too_many_files_and_too_many_bytes_are_both_said() -> None:
    said = check(*[("100644", "400", b"%d" % n) for n in range(11)])
    assert said == [
        ": 11 files, at most 10 are taken",
        ": 4400 bytes of files, at most 1000 are taken",
    ]


@given(st.binary(max_size=300).filter(lambda raw: b"\0" not in raw and raw))
def test_what_passes_is_a_plain_path_inside_the_tree(path: bytes) -> None:
    if limits.check(listing(("100644", "1", path)), max_files=1, max_bytes=1):
        return
    text = path.decode()
    assert text.isprintable() or all(not c.isspace() or c == " " or c > "\x7f" for c in text)
    assert not text.startswith("/")
    assert not {"", ".", "..", ".git"} & set(text.lower().split("/"))


@pytest.mark.parametrize(
    ("path", "is_one"),
    [(b"pipelines/hr.yaml", True), (b"pipelines/a/hr.yaml", False), (b"dags/hr.yaml", False),
     (b"pipelines/hr.py", False)],
)  # fmt: skip
def test_only_yaml_files_directly_in_pipelines_are_pipelines(path: bytes, is_one: bool) -> None:
    assert limits.is_pipeline(path) is is_one
