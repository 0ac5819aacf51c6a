"""What each verb reads from its environment: one declaration for values, defaults and help.

None of these values is a secret. The deploy key and the Nomad token are files, named here.
"""

from __future__ import annotations

import re
import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

from delivery.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

S = TypeVar("S")
MEBIBYTE = 1024 * 1024


def _matching(pattern: str, wanted: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(wanted)
        return text

    return parse


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,14}", text):
        raise ValueError("a whole number above 0")
    return int(text)


def _absolute(text: str) -> Path:
    if not text.startswith("/"):
        raise ValueError("an absolute path")
    return Path(text)


_remote = _matching(
    r"ssh://[A-Za-z0-9_][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?/[A-Za-z0-9._/~-]+",
    "ssh://user@host:port/path",
)
_branch = _matching(
    r"(?!.*(\.\.|//|\.lock$|/$|\.$))[A-Za-z0-9][A-Za-z0-9._/-]{0,200}", "a branch name"
)
_alloc_id = _matching(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", "a Nomad allocation id")
_relative = _matching(r"(?!.*(^|/)\.\.?(/|$))([A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*)?", "a folder")
_task = _matching(r"[A-Za-z0-9_-]{1,128}", "a Nomad task name")
_ip = _matching(r"[0-9A-Fa-f.:]+", "an IP address")
_address = _matching(r"(https?://[^\s/]+/?|unix:///\S+)", "http(s)://host:port or unix:///path")


@dataclass(frozen=True)
class Variable:
    """One environment variable; a field without a default must be set."""

    name: str
    parse: Callable[[str], Any]
    meaning: str


AllocId = Annotated[
    str, Variable("NOMAD_ALLOC_ID", _alloc_id, "set by Nomad: names this run's folder")
]
AllocDir = Annotated[Path, Variable("NOMAD_ALLOC_DIR", _absolute, "set by Nomad")]
Incoming = Annotated[
    Path, Variable("DELIVERY_INCOMING", _absolute, "volume that hands a push from task to task")
]
Mirror = Annotated[
    Path, Variable("DELIVERY_MIRROR", _absolute, "volume of both repositories and the last verdict")
]
INCOMING, MIRROR, ALLOC_DIR = Path("/incoming"), Path("/mirror"), Path("/alloc")


@dataclass(frozen=True, kw_only=True)
class FetchSettings:
    """What ``fetch`` needs; sizes in bytes, times in seconds."""

    remote: Annotated[str, Variable("DELIVERY_REMOTE", _remote, "the analysts' repository")]
    branch: Annotated[str, Variable("DELIVERY_BRANCH", _branch, "what is delivered")] = "main"
    key_file: Annotated[Path, Variable("DELIVERY_KEY_FILE", _absolute, "private deploy key")] = (
        Path("/secrets/deploy_key")
    )
    known_hosts_file: Annotated[
        Path, Variable("DELIVERY_KNOWN_HOSTS_FILE", _absolute, "the remote's host keys")
    ] = Path("/local/known_hosts")
    incoming: Incoming = INCOMING
    mirror: Mirror = MIRROR
    alloc_id: AllocId
    # A school's analysts hold some hundred files; ten times that is still judged in seconds.
    max_files: Annotated[int, Variable("DELIVERY_MAX_FILES", _positive, "most files of a push")] = (
        2000
    )
    max_bytes: Annotated[
        int, Variable("DELIVERY_MAX_BYTES", _positive, "most bytes of a push's files")
    ] = 50 * MEBIBYTE
    # The history may hold what was removed since; this bounds the disk one fetch can take.
    max_transfer: Annotated[
        int, Variable("DELIVERY_MAX_TRANSFER", _positive, "most bytes of one fetch")
    ] = 1024 * MEBIBYTE
    seconds: Annotated[
        int, Variable("DELIVERY_FETCH_SECONDS", _positive, "time bound of one try")
    ] = 120
    attempts: Annotated[
        int, Variable("DELIVERY_FETCH_ATTEMPTS", _positive, "tries, with back-off")
    ] = 4


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """What ``judge`` needs; sizes in bytes, times in seconds."""

    incoming: Incoming = INCOMING
    alloc_id: AllocId
    alloc_dir: AllocDir = ALLOC_DIR
    task_dir: Annotated[Path, Variable("NOMAD_TASK_DIR", _absolute, "set by Nomad")] = Path(
        "/local"
    )
    dags: Annotated[
        str, Variable("DELIVERY_DAGS", _relative, "subdir of the bundle; empty: all of it")
    ] = ""
    uid: Annotated[int, Variable("DELIVERY_STRANGER_UID", _positive, "user of strangers' code")] = (
        50009
    )
    gid: Annotated[
        int, Variable("DELIVERY_STRANGER_GID", _positive, "group of strangers' code")
    ] = 50009
    # 30 s is Airflow's own dagbag_import_timeout: what is judged is what will be asked.
    file_seconds: Annotated[
        int, Variable("DELIVERY_FILE_SECONDS", _positive, "time bound of a file")
    ] = 30
    seconds: Annotated[
        int, Variable("DELIVERY_JUDGE_SECONDS", _positive, "time bound of a child")
    ] = 240
    # Airflow itself takes 150 MB; six times that leaves room for pandas and friends.
    memory: Annotated[
        int, Variable("DELIVERY_JUDGE_MEMORY", _positive, "address space of a process")
    ] = 1024 * MEBIBYTE
    processes: Annotated[
        int, Variable("DELIVERY_JUDGE_PROCESSES", _positive, "processes and threads")
    ] = 64
    file_bytes: Annotated[
        int, Variable("DELIVERY_JUDGE_FILE_BYTES", _positive, "largest file written")
    ] = 32 * MEBIBYTE
    output: Annotated[
        int, Variable("DELIVERY_JUDGE_OUTPUT", _positive, "most bytes a child may print")
    ] = 8 * MEBIBYTE
    python: Annotated[
        Path, Variable("DELIVERY_PYTHON", _absolute, "interpreter of the children")
    ] = Path(sys.executable)


@dataclass(frozen=True, kw_only=True)
class PublishSettings:
    """What ``publish`` needs; times in seconds."""

    incoming: Incoming = INCOMING
    mirror: Mirror = MIRROR
    alloc_id: AllocId
    alloc_dir: AllocDir = ALLOC_DIR
    nomad_address: Annotated[str, Variable("NOMAD_ADDR", _address, "Nomad's API")] = (
        "unix:///secrets/api.sock"
    )
    token_file: Annotated[
        Path, Variable("DELIVERY_NOMAD_TOKEN_FILE", _absolute, "workload identity")
    ] = Path("/secrets/nomad_token")
    ca_file: Annotated[str, Variable("NOMAD_CACERT", str, "Nomad's CA; empty: the system's")] = ""
    judge_task: Annotated[
        str, Variable("DELIVERY_JUDGE_TASK", _task, "the task whose end decides")
    ] = "judge"
    # A poststop task may start before the end of the main task is recorded by the servers.
    nomad_seconds: Annotated[
        int, Variable("DELIVERY_NOMAD_SECONDS", _positive, "wait for Nomad's word")
    ] = 45


@dataclass(frozen=True, kw_only=True)
class MirrorSettings:
    """What ``mirror`` and ``verdict`` need."""

    mirror: Mirror = MIRROR
    # In the task's own network namespace; Nomad says which address the port is published on.
    listen: Annotated[str, Variable("DELIVERY_LISTEN", _ip, "address of the read-only service")] = (
        "0.0.0.0"  # noqa: S104
    )
    port: Annotated[int, Variable("DELIVERY_PORT", _positive, "its port")] = 9418
    connections: Annotated[
        int, Variable("DELIVERY_CONNECTIONS", _positive, "most clients at once")
    ] = 32


def variables(cls: type) -> list[tuple[str, Variable, Any]]:
    """Return (field, variable, default or MISSING) of every field of ``cls``."""
    hints = get_type_hints(cls, include_extras=True)
    return [(f.name, hints[f.name].__metadata__[0], f.default) for f in fields(cls)]


def load(cls: type[S], environ: Mapping[str, str]) -> S:
    """Return ``cls`` filled from ``environ``.

    Raises SettingsError that names the variable, what was expected and what was found.
    """
    values: dict[str, Any] = {}
    for field, known, default in variables(cls):
        raw = environ.get(known.name)
        if raw is None:
            if default is MISSING:
                raise SettingsError(
                    f"{known.name} is not set", f"Set it in the task's env: {known.meaning}."
                )
            continue
        try:
            values[field] = known.parse(raw)
        except ValueError as error:
            raise SettingsError(
                f"{known.name}: expected {error}, found {raw!r}", "Correct it in the task's env."
            ) from error
    return cls(**values)


def explain(cls: type) -> str:
    """Return one line a variable, for ``--help``."""
    return "\n".join(
        f"{known.name}  {known.meaning}  " + ("required" if default is MISSING else f"[{default}]")
        for _, known, default in variables(cls)
    )
