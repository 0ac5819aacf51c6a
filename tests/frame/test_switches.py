"""The file that switches DAGs off: what is read, and what is refused with its line."""

from __future__ import annotations

import pytest

from frame.switches import MAX_BYTES, SwitchesError, is_off, read


def test_a_dag_is_off_where_a_pattern_of_the_environment_has_its_id() -> None:
    switched = read(b"# why\n[staging]\noff = ['mail', 'ingest_*']\n[production]\noff = []\n")
    off = [(dag, env) for env in ("staging", "production", "local") for dag in
           ("mail", "mails", "ingest_hr", "Ingest_hr") if is_off(dag, env, switched)]  # fmt: skip
    assert off == [("mail", "staging"), ("ingest_hr", "staging")]
    assert read(b"") == {}
    assert read(b"\xef\xbb\xbf[staging]\r\noff = ['mail']\r\n") == {"staging": ["mail"]}


@pytest.mark.parametrize(
    ("content", "what", "line"),
    [
        (b"[staging]\noff = ['a'\n[x]", "expected TOML", 3),
        (b"[staging]\non = ['a']", "[staging]: expected the one key off", 0),
        (b"off = ['a']", "[off]: expected the one key off", 0),
        (b"[staging]\noff = 'a'", "[staging] off: expected a list of DAG ids", 0),
        (b"[staging]\noff = [1]", "[staging] off: expected a list of DAG ids", 0),
        (b"\xff", "expected UTF-8", 0),
        (b"a = " + b"[" * 5000, "deep nesting", 0),
        (b"#" * (MAX_BYTES + 1), "expected at most 65536 bytes, found 65537", 0),
    ],
)
def test_what_is_no_such_file_is_refused(content: bytes, what: str, line: int) -> None:
    with pytest.raises(SwitchesError) as refused:
        read(content)
    assert what in str(refused.value)
    assert refused.value.line == line
