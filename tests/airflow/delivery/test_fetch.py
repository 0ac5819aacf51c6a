"""Fetching over a real sshd: what arrives, what is refused, what is tried again."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import threading
import time
from typing import Any

import pytest

from tests.airflow.delivery.conftest import git
from tests.http_server import Answer, http_server

FILES = {"dags/a.py": "# airflow dag\n", "pipelines/hr.yaml": "name: hr\n"}


def test_a_push_arrives_with_its_tree_read_only(verbs: Any) -> None:
    commit = verbs.remote.push(FILES | {"run.sh": "#!/bin/sh\n"})
    done = verbs("fetch")
    assert done.returncode == 0, done.stderr
    expected = {"commit": commit, "previous": "", "last": "", "judged": False, "refused": []}
    assert verbs.candidate() == expected
    tree = verbs.run_folder / "tree"
    assert (tree / "pipelines/hr.yaml").read_text() == "name: hr\n"
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tree, *tree.rglob("*")]}
    assert modes == {"tree": 0o555, "dags": 0o555, "pipelines": 0o555, "a.py": 0o444,
                     "hr.yaml": 0o444, "run.sh": 0o444}  # fmt: skip
    assert (verbs.run_folder / "candidate.json").stat().st_mode & 0o777 == 0o644


def test_the_tree_is_what_a_checkout_makes_of_it(verbs: Any) -> None:
    verbs.remote.push({".gitattributes": "*.txt text eol=crlf\n*.py filter=evil ident\n",
                       "a.txt": "one\n", "a.py": "# $Id$\n"})  # fmt: skip
    assert verbs("fetch").returncode == 0
    assert (verbs.run_folder / "tree/a.txt").read_bytes() == b"one\r\n"
    assert b"$Id: " in (verbs.run_folder / "tree/a.py").read_bytes()


def test_an_unchanged_branch_is_nothing_new_and_brings_no_objects(verbs: Any) -> None:
    commit = verbs.remote.push(FILES)
    verbs.deliver()
    done = verbs("fetch")
    assert done.returncode == 0, done.stderr
    assert "nothing new" in done.stderr
    assert verbs.candidate()["judged"] is True
    assert verbs.candidate()["commit"] == commit
    assert sorted(path.name for path in verbs.run_folder.iterdir()) == ["candidate.json"]


def test_a_second_push_borrows_what_the_mirror_has(verbs: Any) -> None:
    verbs.remote.push(FILES | {"big.csv": "".join(f"{n},{n * n}\n" for n in range(50_000))})
    verbs.deliver()
    previous = verbs.live("analysts")
    verbs.remote.push(FILES | {"dags/b.py": "# airflow dag\n"})
    assert verbs("fetch").returncode == 0
    assert verbs.candidate()["previous"] == previous
    packs = (verbs.run_folder / "repo.git/objects/pack").glob("*.pack")
    assert sum(pack.stat().st_size for pack in packs) < 10_000


def test_a_link_to_a_file_of_the_push_is_exported_as_a_link(verbs: Any) -> None:
    verbs.remote.push(FILES | {"pipelines/staff.yaml": "-> hr.yaml"})
    done = verbs("fetch")
    assert done.returncode == 0, done.stderr
    assert verbs.candidate()["refused"] == []
    link = verbs.run_folder / "tree/pipelines/staff.yaml"
    assert link.is_symlink()
    assert link.read_text() == "name: hr\n"


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"dags/a.py": "-> /etc/passwd"}, "symbolic link leads to /etc/passwd"),
        ({"pipelines/hr.yml": ""}, "rename it"),
        ({f"{n}.txt": "" for n in range(30)}, "30 files, at most 20"),
        ({"a.csv": "x" * 60_000}, "60000 bytes of 60000 in all, at most 50000"),
    ],
)
def test_a_broken_limit_is_a_verdict_and_not_a_failure(
    verbs: Any, files: dict[str, str], reason: str
) -> None:
    verbs.remote.push(files)
    done = verbs("fetch", DELIVERY_MAX_FILES="20", DELIVERY_MAX_BYTES="50000")
    assert done.returncode == 0, done.stderr
    assert reason in verbs.candidate()["refused"][0]["what"]
    assert not (verbs.run_folder / "tree").exists()


def raw_tree(verbs: Any, entries: bytes) -> str:
    """Write a tree object that no git command would make."""
    made = subprocess.run(
        ["git", f"--git-dir={verbs.remote.path}", "hash-object", "-w", "-t", "tree", "--literally",
         "--stdin"], input=entries, capture_output=True, check=True,
    )  # fmt: skip
    return made.stdout.decode().strip()


@pytest.mark.parametrize(
    ("mode", "name"),
    [(b"100644", b".git"), (b"100644", b".."), (b"100644", b"a/b"), (b"160000", b"module")],
)
def test_a_tree_made_by_hand_is_refused(verbs: Any, mode: bytes, name: bytes) -> None:
    blob = subprocess.run(
        ["git", f"--git-dir={verbs.remote.path}", "hash-object", "-w", "--stdin"],
        input=b"x", capture_output=True, check=True,
    ).stdout.decode().strip()  # fmt: skip
    tree = raw_tree(verbs, mode + b" " + name + b"\0" + bytes.fromhex(blob))
    commit = verbs.remote.commit(tree)
    done = verbs("fetch")
    assert done.returncode == 0, done.stderr
    assert verbs.candidate()["commit"] == commit
    assert verbs.candidate()["refused"]
    assert not (verbs.run_folder / "tree").exists()


def by_hand(verbs: Any, name: bytes, content: bytes = b"x") -> str:
    """Push a commit of one file, by any name, that no git command would make; return the id."""
    blob = git(f"--git-dir={verbs.remote.path}", "hash-object", "-w", "--stdin", stdin=content)
    tree = raw_tree(verbs, b"100644 " + name + b"\0" + bytes.fromhex(blob))
    return str(verbs.remote.commit(tree))


UNSAFE = [
    (b".git", b"x", "", "hasDotgit"),
    (b".gitmodules", b'[submodule "x"]\n\turl = -u./payload\n\tpath = x\n', ".gitmodules",
     "gitmodulesUrl"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "path", "reason"), UNSAFE)
def test_what_git_finds_unsafe_is_named_with_path_and_object(
    verbs: Any, name: bytes, content: bytes, path: str, reason: str
) -> None:
    verbs.remote.push(FILES)
    by_hand(verbs, name, content)
    assert verbs("fetch").returncode == 0
    found = [each for each in verbs.candidate()["refused"] if each["rule"] == "history"]
    assert [each["file"] for each in found] == [path]
    assert reason in found[0]["what"]


@pytest.mark.parametrize(("name", "content", "path", "reason"), UNSAFE)
def test_a_mistake_that_the_next_commit_puts_right_is_delivered_and_can_be_cloned(
    verbs: Any, name: bytes, content: bytes, path: str, reason: str
) -> None:
    by_hand(verbs, name, content)
    verbs.deliver()
    assert verbs.verdict()["verdict"] == "refused", (path, reason)
    commit = verbs.remote.push(FILES)
    verbs.deliver()
    assert verbs.verdict()["verdict"] == "sound"
    assert verbs.live("analysts") == commit
    git("clone", "--quiet", f"file://{verbs.mirror}/analysts.git", str(verbs.place / "clone"))
    assert (verbs.place / "clone/dags/a.py").exists()
    verbs.remote.push(FILES | {"b.txt": ""})
    verbs.deliver()
    assert verbs.verdict()["verdict"] == "sound"


def test_a_tree_bomb_is_refused_in_bounded_time(verbs: Any) -> None:
    blob = subprocess.run(
        ["git", f"--git-dir={verbs.remote.path}", "hash-object", "-w", "--stdin"],
        input=b"x", capture_output=True, check=True,
    ).stdout.strip()  # fmt: skip
    kind, mode = b"blob", b"100644"
    for _ in range(10):
        listing = b"".join(b"%s %s %s\tf%d\n" % (mode, kind, blob, n) for n in range(10))
        blob = subprocess.run(
            ["git", f"--git-dir={verbs.remote.path}", "mktree"],
            input=listing, capture_output=True, check=True,
        ).stdout.strip()  # fmt: skip
        kind, mode = b"tree", b"040000"
    verbs.remote.commit(blob.decode())
    began = time.monotonic()
    done = verbs("fetch")
    assert done.returncode == 0, done.stderr
    assert "cannot be listed within bounds" in verbs.candidate()["refused"][0]["what"]
    assert time.monotonic() - began < 40


def test_an_airflowignore_that_is_not_utf_8_is_named(verbs: Any) -> None:
    by_hand(verbs, b".airflowignore", b"dags/\xff\n")
    assert verbs("fetch").returncode == 0
    (found,) = verbs.candidate()["refused"]
    assert (found["file"], found["rule"]) == (".airflowignore", "tree")
    assert found["what"] == "not UTF-8 at byte 5"
    assert not (verbs.run_folder / "tree").exists()


def test_a_file_that_is_kept_by_git_lfs_is_named(verbs: Any) -> None:
    files = {
        ".gitattributes": "*.csv filter=lfs diff=lfs merge=lfs -text\n",
        "dags/a.py": "x = 1\n",
    }
    verbs.remote.push(
        {**files, "loads/files/ä b.csv": "version https://git-lfs.github.com/spec/v1"}
    )
    assert verbs("fetch").returncode == 0
    (found,) = verbs.candidate()["refused"]
    assert (found["file"], found["rule"]) == ("loads/files/ä b.csv", "tree")
    assert "its content is in git LFS" in found["what"]


def test_a_tree_that_grows_beyond_bounds_when_it_is_checked_out_is_refused(verbs: Any) -> None:
    verbs.remote.push({".gitattributes": "*.csv text working-tree-encoding=UTF-32",
                       "a.csv": "1234567\n" * 2_200_000})  # fmt: skip
    done = verbs("fetch")
    assert done.returncode == 0, done.stderr
    assert "cannot be checked out" in verbs.candidate()["refused"][0]["what"]
    assert not (verbs.run_folder / "tree").exists()


def test_a_volume_that_is_full_refuses_no_push(verbs: Any) -> None:
    commit = verbs.remote.push({"dags/a.py": "x = 1\n", "a.txt": "ab\n" * 2_000_000})
    mounted = str(verbs.incoming)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", mounted], check=True)
    try:
        done = verbs("fetch")
        assert done.returncode == 1
        assert "HINT: Make room on that volume" in done.stderr
        assert not (verbs.run_folder / "candidate.json").exists()
        subprocess.run(["mount", "-o", "remount,size=100m", mounted], check=True)
        assert verbs("fetch").returncode == 0
        assert (verbs.candidate()["commit"], verbs.candidate()["refused"]) == (commit, [])
    finally:
        subprocess.run(["umount", mounted], check=True)


def test_a_push_that_removes_everything_says_so_or_is_refused(verbs: Any) -> None:
    verbs.remote.push({"README.md": ""})
    verbs.deliver()
    assert verbs.verdict()["verdict"] == "sound", "nothing was live before"
    kept = verbs.remote.push(FILES)
    verbs.deliver()
    verbs.remote.push({"README.md": "# gate: allow removal because \n", "dags/a.sql": ""})
    verbs.deliver()
    (found,) = verbs.verdict()["findings"]
    assert found["what"] == "the push removes every DAG and pipeline"
    assert verbs.live("analysts") == kept
    emptied = verbs.remote.push({"README.md": "# gate: allow removal because we begin again\n"})
    verbs.deliver()
    assert verbs.live("analysts") == emptied


def test_since_when_the_remote_gives_nothing_is_noted_until_it_does(verbs: Any) -> None:
    verbs.remote.push(FILES)
    noted = verbs.incoming / "failing.json"
    assert verbs("fetch", DELIVERY_BRANCH="other").returncode == 1
    since = json.loads(noted.read_text())["since"]
    done = verbs("fetch", DELIVERY_BRANCH="other")
    assert "what is live stays live" in done.stderr
    assert json.loads(noted.read_text())["since"] == since
    assert verbs("fetch").returncode == 0
    assert not noted.exists()


def test_a_remote_that_is_away_for_an_hour_is_told_once_and_when_it_is_back(verbs: Any) -> None:
    verbs.remote.push(FILES)
    noted = verbs.incoming / "failing.json"
    hook = verbs.place / "hook"

    def away(**note: float) -> str:
        noted.write_text(json.dumps(note))
        done = verbs("fetch", DELIVERY_BRANCH="other", DELIVERY_ALERTS_FILE=str(hook))
        assert done.returncode == 1
        assert secret not in done.stderr
        return str(done.stderr)

    with http_server(Answer(status=503), Answer(status=200)) as receiver:
        secret = secrets.token_hex(16)
        hook.write_text(f"{receiver.url}/{secret}")
        now = time.time()
        away(since=now - 3000)
        assert not receiver.posts
        assert "seconds=40" in away(since=now - 4000)  # tried again after the 503
        assert [each["status"] for each in receiver.posts] == ["failed", "failed"]
        said = receiver.posts[-1]
        assert said["branch"] == "other"
        assert "has no branch other" in said["reason"]
        away(**{k: v for k, v in json.loads(noted.read_text()).items() if k != "reason"})
        assert len(receiver.posts) == 2, "it was told"
        away(since=now - 200_000, told=now - 90_000)
        assert len(receiver.posts) == 3, "a day later again"
        assert verbs("fetch", DELIVERY_ALERTS_FILE=str(hook)).returncode == 0
        assert receiver.posts[-1]["status"] == "recovered"
        assert not noted.exists()


def test_replace_refs_of_the_remote_change_nothing(verbs: Any) -> None:
    good = verbs.remote.push(FILES)
    evil = verbs.remote.push({"evil.py": ""}, parents=False)
    for ref, target in (("refs/heads/main", good), (f"refs/replace/{good}", evil)):
        subprocess.run(
            ["git", f"--git-dir={verbs.remote.path}", "update-ref", ref, target], check=True
        )
    assert verbs("fetch").returncode == 0
    assert (verbs.run_folder / "tree/dags/a.py").exists()


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ("host", "host key"),
        ("key", "deploy key's public half"),
        ("branch", "DELIVERY_BRANCH"),
        ("path", "See that the remote runs"),
    ],
)
def test_what_the_remote_refuses_is_said_at_once(verbs: Any, change: str, hint: str) -> None:
    verbs.remote.push(FILES)
    home = verbs.remote.sshd.home
    other = verbs.place / "known_hosts"
    other.write_text(
        verbs.remote.sshd.known_hosts.read_text().split()[0]
        + " "
        + " ".join((home / "stranger.pub").read_text().split()[:2])
    )
    more = {
        "host": {"DELIVERY_KNOWN_HOSTS_FILE": str(other)},
        "key": {"DELIVERY_KEY_FILE": str(home / "stranger")},
        "branch": {"DELIVERY_BRANCH": "other"},
        "path": {"DELIVERY_REMOTE": verbs.remote.url.replace("analysts", "nothing")},
    }[change]
    done = verbs("fetch", **more)
    assert done.returncode == 1, done.stderr
    assert hint in done.stderr.split("HINT:")[1]
    assert "did not answer" not in done.stderr, "no other try could end otherwise"
    assert not (verbs.run_folder / "candidate.json").exists()


def test_a_history_that_is_too_large_is_said_at_once(verbs: Any) -> None:
    verbs.remote.push({"a": "".join(f"{n * n * n}" for n in range(20_000))})
    done = verbs("fetch", DELIVERY_MAX_TRANSFER="20000")
    assert done.returncode == 1, done.stderr
    assert "HINT: Raise DELIVERY_MAX_TRANSFER" in done.stderr
    assert "did not answer" not in done.stderr


def test_a_remote_that_comes_back_is_tried_again(verbs: Any) -> None:
    verbs.remote.push(FILES)
    sshd = verbs.remote.sshd
    sshd.stop()
    later = threading.Timer(1.5, sshd.start)
    later.start()
    done = verbs("fetch", DELIVERY_FETCH_ATTEMPTS="4")
    later.join()
    assert done.returncode == 0, done.stderr
    assert "did not answer" in done.stderr


def test_the_key_may_lack_its_last_newline_and_no_copy_of_it_stays(verbs: Any) -> None:
    verbs.remote.push(FILES)
    secrets = verbs.place / "secrets"
    key = secrets / "deploy_key"
    key.write_text(verbs.remote.sshd.key.read_text().rstrip().replace("\n", "\r\n"))
    key.chmod(0o644)
    done = verbs("fetch", DELIVERY_KEY_FILE=str(key))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in secrets.iterdir()) == ["deploy_key", "nomad_token"]
    for path in verbs.incoming.rglob("*"):
        assert not path.is_file() or b"PRIVATE KEY" not in path.read_bytes()


def test_a_key_that_is_not_there_is_wrong_use(verbs: Any) -> None:
    done = verbs("fetch", DELIVERY_KEY_FILE="/nowhere/deploy_key")
    assert done.returncode == 2
    assert "'/nowhere/deploy_key'" in done.stderr


def test_folders_of_runs_that_died_a_day_ago_go_and_others_stay(verbs: Any) -> None:
    verbs.remote.push(FILES)
    for name, age in (("dead", 90_000), ("alive", 3600)):
        folder = verbs.incoming / name / "tree"
        folder.mkdir(parents=True)
        (folder / "x").write_text("")
        folder.chmod(0o555)
        os.utime(verbs.incoming / name, (time.time() - age,) * 2)
    assert verbs("fetch").returncode == 0
    assert sorted(p.name for p in verbs.incoming.iterdir()) == [verbs.run_folder.name, "alive"]


def test_a_second_try_of_the_same_allocation_starts_anew(verbs: Any) -> None:
    verbs.remote.push(FILES)
    assert verbs("fetch").returncode == 0
    commit = verbs.remote.push(FILES | {"b.txt": ""})
    assert verbs("fetch").returncode == 0
    assert verbs.candidate()["commit"] == commit
    assert (verbs.run_folder / "tree/b.txt").exists()
