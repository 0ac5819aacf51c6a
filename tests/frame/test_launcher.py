"""Nomad's folders are shut to strangers, and the service gets no more rights than it needs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from frame import trust
from frame.failure import Failure
from frame.launcher import command_line, shut
from scripts.repository import ROOT
from tests.tls import PUBLIC, Authority

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.programs

STRANGER, SERVICE, NOBODY = 50009, 50000, 65534
# What Docker leaves to root where a job drops all and adds these.
CONTAINER = ["setpriv", "--bounding-set=-all,+setuid,+setgid,+kill,+fowner", "--inh-caps=-all"]
# What a stranger tries in each folder: to look, to plant, to replace, to move Nomad's own away.
ATTACK = """
import json, os, sys
def tried(action, *words):
    try:
        action(*words)
    except OSError as error:
        return type(error).__name__
    return "done"
results = {}
for folder in sys.argv[1:]:
    results[os.path.basename(folder)] = {
        "list": tried(os.listdir, folder),
        "plant": tried(os.symlink, "/etc/passwd", f"{folder}/nomad_vault_default.jwt.new"),
        "remove": tried(os.unlink, f"{folder}/nomad_vault_default.jwt"),
        "move": tried(os.rename, f"{folder}/logs", f"{folder}/moved"),
        "plant a log": tried(os.symlink, "/etc/passwd", f"{folder}/logs/worker.stdout.1"),
        "open up": tried(os.chmod, folder, 0o777),
        "read": tried(lambda: open(f"{folder}/nomad_vault_default.jwt").read()),
        "read its own": tried(lambda: open(f"{folder}/redis_url").read()),
    }
print(json.dumps(results))
"""
DENIED = "PermissionError"


def nomads(folder: Path) -> Path:
    """Make a folder as Nomad leaves it to a task: everybody's, and of the user nobody."""
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    os.chown(folder, NOBODY, NOBODY)
    return folder


def again(folder: Path) -> None:
    """Do what Nomad's agent does to the folder when it starts again beside a running task."""
    nomads(folder)
    if folder.name == "alloc":
        nomads(folder / "logs")


@pytest.fixture
def folders() -> Iterator[list[Path]]:
    """The folders of a task, with what is in them before its first process starts."""
    if os.geteuid() != 0:
        pytest.fail("this test changes users for real: run it as root")
    place = Path(tempfile.mkdtemp(prefix="harmattan-launcher-", dir="/tmp"))
    place.chmod(0o755)
    made = [nomads(place / name) for name in ("secrets", "alloc", "local")]
    for folder in made:
        (folder / "logs").mkdir()
        # As Nomad writes for a user that the node does not know: for all to read.
        (folder / "nomad_vault_default.jwt").write_text("an identity")
        (folder / "nomad_vault_default.jwt").chmod(0o644)
        (folder / "redis_url").write_text("redis://")
        (folder / "redis_url").chmod(0o400)
        os.chown(folder / "redis_url", STRANGER, STRANGER)
        again(folder)
    yield made
    shutil.rmtree(place)


def python() -> str:
    found = shutil.which("python3", path="/usr/bin")
    assert found is not None, "apt-get install python3"
    return found


def launch(
    folders: list[Path], *words: str, container: list[str] = CONTAINER, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the launcher as a container does, with ``folders`` in the place of its own."""
    logs = folders[1] / "logs"
    code = (
        "import frame.launcher as l; from pathlib import Path;"
        f"l.FOLDERS = [Path(each) for each in {[str(each) for each in [*folders, logs]]}];"
        f"l.pwd.getpwuid = lambda uid: l.pwd.struct_passwd("
        "('airflow', 'x', uid, uid, '', '/home/airflow', '/bin/sh')); l.main()"
    )
    return subprocess.run(
        [*container, python(), "-c", code, *words],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", **environment},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip


def worker(folders: list[Path]) -> subprocess.CompletedProcess[str]:
    """Launch what is the strangers' user itself, and reads its secrets."""
    words = (f"--stranger={STRANGER}", f"--user={STRANGER}:{SERVICE}", f"--pass={folders[0]}")
    return launch(folders, *words, "true")


def attack(folders: list[Path], user: int = STRANGER) -> dict[str, dict[str, str]]:
    done = subprocess.run(
        ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups",
         python(), "-c", ATTACK, *map(str, folders)],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_without_it_a_stranger_puts_a_link_where_nomad_writes(folders: list[Path]) -> None:
    tried = attack(folders)
    assert tried["secrets"]["plant"] == tried["secrets"]["remove"] == "done"
    assert tried["alloc"]["move"] == "done"


@pytest.mark.parametrize("restarted", [False, True], ids=["at first", "after Nomad's restart"])
def test_a_stranger_reaches_none_of_nomads_folders(folders: list[Path], restarted: bool) -> None:
    done = launch(folders, f"--stranger={STRANGER}", "true")
    assert done.returncode == 0, done.stderr
    for folder in folders if restarted else ():
        again(folder)
    assert {result for tried in attack(folders).values() for result in tried.values()} == {DENIED}


@pytest.mark.parametrize("restarted", [False, True], ids=["at first", "after Nomad's restart"])
def test_a_worker_reads_its_secrets_by_their_names_and_changes_none(
    folders: list[Path],
    restarted: bool,
) -> None:
    done = worker(folders)
    assert done.returncode == 0, done.stderr
    for folder in folders if restarted else ():
        again(folder)
    tried = attack(folders)
    assert tried["secrets"].pop("read") == tried["secrets"].pop("read its own") == "done"
    assert {result for each in tried.values() for result in each.values()} == {DENIED}


def test_a_stranger_that_shares_a_folder_of_the_allocation_reaches_no_log(
    folders: list[Path],
) -> None:
    """The drill's server: what it shares with the drill is in /alloc/data."""
    alloc = folders[1]
    nomads(alloc / "data")
    done = launch(folders, f"--stranger={STRANGER}", f"--pass={alloc}", "true")
    assert done.returncode == 0, done.stderr
    tried = attack(folders)["alloc"]
    assert tried["move"] == tried["plant"] == tried["plant a log"] == DENIED
    assert attack([alloc / "data"])["data"]["plant"] == "done"


def test_what_nomad_renews_is_read_by_the_worker(folders: list[Path]) -> None:
    worker(folders)
    token = folders[0] / "nomad_vault_default.jwt"
    token.write_text("another identity")  # as Nomad does: into the file that is there
    template = folders[0] / "redis_url.new"
    template.write_text("redis://other")
    os.chown(template, STRANGER, STRANGER)
    template.chmod(0o400)
    template.rename(folders[0] / "redis_url")  # as a template is written
    tried = attack(folders)
    assert tried["secrets"]["read"] == tried["secrets"]["read its own"] == "done"


def test_others_than_the_stranger_keep_what_they_had(folders: list[Path]) -> None:
    launch(folders, f"--stranger={STRANGER}", "true")
    tried = attack(folders, SERVICE)
    assert {each["list"] for each in tried.values()} == {"done"}


def test_it_adds_the_clusters_authorities_and_no_stranger_changes_them(
    folders: list[Path],
) -> None:
    place = folders[0].parent / "tmp"
    place.mkdir()
    place.chmod(0o1777)
    words = (f"--stranger={STRANGER}", f"--user={STRANGER}:{SERVICE}", f"--pass={folders[0]}")
    show = "import os; f = os.environ['SSL_CERT_FILE']; print(f, os.access(f, os.R_OK), end='')"
    own = {"TMPDIR": str(place), "SSL_CERT_FILE": PUBLIC, trust.OWN: Authority().pem}
    done = launch(folders, *words, python(), "-c", f"{show}; open(f, 'w')", **own)
    (file,) = place.iterdir()
    assert done.stdout == f"{file} True"
    assert "PermissionError" in done.stderr
    assert file.read_text().endswith(f"{own[trust.OWN].strip()}\n")


LOOK = """
import json, os
status = open("/proc/self/status").read()
print(json.dumps({"users": [*os.getresuid(), *os.getresgid()], "groups": os.getgroups(),
    "home": os.environ["HOME"],
    "rights": {line.split(":")[0]: line.split()[1] for line in status.splitlines()
               if line.startswith(("CapPrm", "CapEff", "CapAmb", "NoNewPrivs"))}}))
"""


def rights(keep: str, folders: list[Path]) -> dict[str, Any]:
    words = (f"--stranger={STRANGER}", f"--user={SERVICE}:{SERVICE}", f"--keep={keep}")
    done = launch(folders, *words, python(), "-c", LOOK)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_the_service_is_its_user_without_any_right(folders: list[Path]) -> None:
    seen = rights("", folders)
    assert (seen["users"], seen["groups"]) == ([SERVICE] * 6, [])
    assert seen["home"] == "/home/airflow"
    none = "0" * 16
    assert seen["rights"] == {
        "CapPrm": none, "CapEff": none, "CapAmb": none, "NoNewPrivs": "1",
    }  # fmt: skip


def test_the_service_keeps_the_rights_that_its_children_need_and_not_the_launchers(
    folders: list[Path],
) -> None:
    kill, setgid, setuid = 1 << 5, 1 << 6, 1 << 7
    seen = rights("setuid,setgid,kill", folders)["rights"]
    assert int(seen["CapEff"], 16) == int(seen["CapPrm"], 16) == kill | setgid | setuid


def test_a_command_without_a_user_is_run_as_it_is() -> None:
    assert command_line(None, "", ["python", "-V"]) == ["python", "-V"]


def test_without_the_right_to_shut_them_nothing_starts(folders: list[Path]) -> None:
    few = ["setpriv", "--bounding-set=-all,+setuid", "--inh-caps=-all"]
    done = launch(folders, f"--stranger={STRANGER}", "echo", "started", container=few)
    assert (done.returncode, done.stdout) == (1, "")
    assert "expected to shut it to the user 50009" in done.stderr
    assert "HINT: Run the task as root with the capability FOWNER." in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_system_without_lists_is_named() -> None:
    with pytest.raises(Failure, match=r"/proc/sys.*found Operation not supported") as caught:
        shut(Path("/proc/sys"), STRANGER)
    assert "ext4 or XFS" in caught.value.hint
