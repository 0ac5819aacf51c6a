"""Fetching over a real sshd: what arrives, what is refused, what is tried again."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import Any

import pytest

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


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"dags/a.py": "-> /etc/passwd"}, "symbolic links"),
        ({"pipelines/hr.yml": ""}, "rename it"),
        ({f"{n}.txt": "" for n in range(30)}, "30 files, at most 20"),
        ({"a.csv": "x" * 60_000}, "60000 bytes of files, at most 50000"),
    ],
)
def test_a_broken_limit_is_a_verdict_and_not_a_failure(
    verbs: Any, files: dict[str, str], reason: str
) -> None:
    verbs.remote.push(files)
    done = verbs("fetch", DELIVERY_MAX_FILES="20", DELIVERY_MAX_BYTES="50000")
    assert done.returncode == 0, done.stderr
    assert reason in verbs.candidate()["refused"][0]["message"]
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
    assert "cannot be listed within bounds" in verbs.candidate()["refused"][0]["message"]
    assert time.monotonic() - began < 40


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
    began = time.monotonic()
    done = verbs("fetch", **more)
    assert done.returncode == 1, done.stderr
    assert hint in done.stderr.split("HINT:")[1]
    assert time.monotonic() - began < 5
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
