"""What each verb reads from its environment: one declaration for values, defaults and help.

None of these values is a secret. The deploy key, git's login and the Nomad token are files, named
here.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from frame.settings import Settings

MEBIBYTE = 1024 * 1024


def _matching(pattern: str, wanted: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {wanted}")
        return text

    return AfterValidator(check)


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


Remote = Annotated[
    str,
    _matching(
        r"(ssh://[A-Za-z0-9_][A-Za-z0-9._-]*@|https://)[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?"
        r"/[A-Za-z0-9._/~-]+",
        "ssh://user@host:port/path or https://host:port/path, without a login",
    ),
]
Branch = Annotated[
    str,
    _matching(r"(?!.*(\.\.|//|\.lock$|/$|\.$))[A-Za-z0-9][A-Za-z0-9._/-]{0,200}", "a branch name"),
]
AllocationId = Annotated[str, _matching(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", "an allocation id")]
TaskName = Annotated[str, _matching(r"[A-Za-z0-9_-]{1,128}", "a Nomad task name")]
IpAddress = Annotated[str, _matching(r"[0-9A-Fa-f.:]+", "an IP address")]
Queues = Annotated[
    str, _matching(r"[a-z0-9]+(,[a-z0-9]+)*", "queues with a comma between two of them")
]
Environments = Annotated[
    str,
    _matching(r"[a-z][a-z0-9-]*(,[a-z][a-z0-9-]*)*", "environments with commas between them"),
]
Containers = Annotated[
    str,
    _matching(r"[a-z][a-z0-9_]*(,[a-z][a-z0-9_]*)*", "containers with a comma between two of them"),
]
Domains = Annotated[
    str, _matching(r"([A-Za-z0-9.-]+(,[A-Za-z0-9.-]+)*)?", "domains with a comma between two")
]
Address = Annotated[
    str, _matching(r"(https?://[^\s/]+/?|unix:///\S+)", "http(s)://host:port or unix:///path")
]
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Positive = Annotated[int, Field(gt=0, lt=10**15)]


class RunSettings(Settings):
    """What every task of a run is told."""

    alloc_id: AllocationId = Field(
        alias="NOMAD_ALLOC_ID", description="id that names this run's folder; set by Nomad"
    )
    incoming: AbsolutePath = Field(
        default=Path("/incoming"),
        alias="DELIVERY_INCOMING",
        description="volume that hands a push from task to task",
    )


class AllocSettings(Settings):
    """The folder that the tasks of a run share."""

    alloc_dir: AbsolutePath = Field(
        default=Path("/alloc"), alias="NOMAD_ALLOC_DIR", description="set by Nomad"
    )


class VolumeSettings(Settings):
    """The volume of what was delivered, which is all that ``verdict`` needs."""

    mirror: AbsolutePath = Field(
        default=Path("/mirror"),
        alias="DELIVERY_MIRROR",
        description="volume of the repositories and the verdicts",
    )


class TreeSettings(Settings):
    """How large a push may be; sizes in bytes."""

    # A school's analysts hold some hundred files; ten times that is still judged in seconds.
    max_files: Positive = Field(
        default=2000, alias="DELIVERY_MAX_FILES", description="most files of a push"
    )
    max_bytes: Positive = Field(
        default=50 * MEBIBYTE, alias="DELIVERY_MAX_BYTES", description="most bytes of its files"
    )


class FetchSettings(TreeSettings, VolumeSettings, RunSettings):
    """What ``fetch`` needs; sizes in bytes, times in seconds."""

    remote: Remote = Field(alias="DELIVERY_REMOTE", description="the analysts' repository")
    branch: Branch = Field(
        default="main", alias="DELIVERY_BRANCH", description="branch that is delivered"
    )
    key_file: AbsolutePath = Field(
        default=Path("/secrets/deploy_key"),
        alias="DELIVERY_KEY_FILE",
        description="private deploy key, for a remote with ssh",
    )
    known_hosts_file: AbsolutePath = Field(
        default=Path("/local/known_hosts"),
        alias="DELIVERY_KNOWN_HOSTS_FILE",
        description="the remote's host keys, for one with ssh",
    )
    git_config: AbsolutePath = Field(
        default=Path("/secrets/git_config"),
        alias="DELIVERY_GIT_CONFIG",
        description="git's configuration with the header that logs in, for a remote with https",
    )
    alerts_file: AbsolutePath = Field(
        default=Path("/secrets/alerts"),
        alias="DELIVERY_ALERTS_FILE",
        description="URL of a webhook that hears of a remote that is away; empty for none",
    )
    # The history may hold what was removed since; this bounds the disk one fetch can take.
    max_transfer: Positive = Field(
        default=1024 * MEBIBYTE,
        alias="DELIVERY_MAX_TRANSFER",
        description="most bytes of one fetch",
    )
    seconds: Positive = Field(
        default=120, alias="DELIVERY_FETCH_SECONDS", description="most seconds of one try"
    )
    attempts: Positive = Field(
        default=4, alias="DELIVERY_FETCH_ATTEMPTS", description="most tries, with back-off"
    )


class GateSettings(Settings):
    """What is asked of a tree, wherever it is; sizes in bytes, times in seconds."""

    queues: Queues | None = Field(
        default=None,
        alias="DELIVERY_QUEUES",
        description="queues that workers serve; without it a task may name any",
    )
    environments: Environments | None = Field(
        default=None,
        alias="DELIVERY_ENVIRONMENTS",
        description="what environments.toml may speak of; without it, anything",
    )
    containers: Containers | None = Field(
        default=None,
        alias="DELIVERY_CONTAINERS",
        description="what files of containers/ may run; without it, anything",
    )
    # A quarter of what Airflow gives a file (airflow.cfg): what passes here does on a busy node.
    file_seconds: Positive = Field(
        default=30, alias="DELIVERY_FILE_SECONDS", description="most seconds of a file"
    )
    seconds: Positive = Field(
        default=240, alias="DELIVERY_JUDGE_SECONDS", description="most seconds of a child"
    )
    # Airflow itself takes 150 MB; six times that leaves room for pandas and friends.
    memory: Positive = Field(
        default=1024 * MEBIBYTE,
        alias="DELIVERY_JUDGE_MEMORY",
        description="address space of a process in bytes",
    )
    processes: Positive = Field(
        default=64, alias="DELIVERY_JUDGE_PROCESSES", description="most processes and threads"
    )
    file_bytes: Positive = Field(
        default=32 * MEBIBYTE,
        alias="DELIVERY_JUDGE_FILE_BYTES",
        description="most bytes of a file that is written",
    )
    output: Positive = Field(
        default=8 * MEBIBYTE,
        alias="DELIVERY_JUDGE_OUTPUT",
        description="most bytes that a child may print",
    )
    python: AbsolutePath = Field(
        default_factory=lambda: Path(sys.executable),
        alias="DELIVERY_PYTHON",
        description="interpreter of the children (default: this one)",
    )


class JudgeSettings(GateSettings, AllocSettings, RunSettings):
    """What ``judge`` needs besides."""

    task_dir: AbsolutePath = Field(
        default=Path("/local"), alias="NOMAD_TASK_DIR", description="set by Nomad"
    )
    uid: Positive = Field(
        default=50009, alias="DELIVERY_STRANGER_UID", description="user of strangers' code"
    )
    gid: Positive = Field(
        default=50009, alias="DELIVERY_STRANGER_GID", description="group of strangers' code"
    )
    dbt: AbsolutePath = Field(
        default=Path("/opt/dbt/bin/dbt"),
        alias="HARMATTAN_DBT",
        description="dbt, in an environment of its own",
    )


def _dbt() -> Path | None:
    """Return the dbt that `make setup` of the analysts' repository puts beside this Python."""
    beside = Path(sys.prefix) / "dbt/bin/dbt"
    return beside if beside.exists() else None


class CheckSettings(TreeSettings, GateSettings):
    """What ``check`` needs."""

    dbt: AbsolutePath | None = Field(
        default_factory=_dbt,
        alias="HARMATTAN_DBT",
        description="dbt, in an environment of its own (default: that of `make setup`)",
    )


class NomadSettings(Settings):
    """How a task reaches Nomad, with its own identity."""

    nomad_address: Address = Field(
        default="unix:///secrets/api.sock", alias="NOMAD_ADDR", description="Nomad's API"
    )
    token_file: AbsolutePath = Field(
        default=Path("/secrets/nomad_token"),
        alias="DELIVERY_NOMAD_TOKEN_FILE",
        description="file of the workload identity",
    )
    ca_file: str = Field(
        default="", alias="NOMAD_CACERT", description="file of Nomad's own CA, if it has one"
    )


class HookSettings(NomadSettings):
    """What the web server needs to take the calls of a git server."""

    secret_file: AbsolutePath = Field(
        default=Path("/secrets/push_hook"),
        alias="DELIVERY_HOOK_SECRET_FILE",
        description="what the git server signs its calls with; without the file none is taken",
    )
    namespace: str = Field(default="default", alias="NOMAD_NAMESPACE", description="set by Nomad")
    job: TaskName = Field(
        default="dag-sync", alias="DELIVERY_JOB", description="the periodic job that is started"
    )


class PublishSettings(NomadSettings, VolumeSettings, AllocSettings, RunSettings):
    """What ``publish`` needs; times in seconds."""

    judge_task: TaskName = Field(
        default="judge", alias="DELIVERY_JUDGE_TASK", description="task whose end decides"
    )
    # A poststop task may start before the end of the main task is recorded by the servers.
    nomad_seconds: Positive = Field(
        default=45,
        alias="DELIVERY_NOMAD_SECONDS",
        description="most seconds to wait for Nomad's word",
    )

    forge: Literal["none", "github", "gitlab", "gitea"] = Field(
        default="none",
        alias="DELIVERY_FORGE",
        description="server that is told the status of commits: gitea is Forgejo's as well",
    )
    forge_url: str = Field(
        default="",
        alias="DELIVERY_FORGE_URL",
        description="the repository in its API: https://HOST/…/repos/OWNER/NAME, or …/projects/ID",
    )
    pages: str = Field(
        default="",
        alias="DELIVERY_PAGES",
        description="the folder of commits' pages, which a status leads to: https://HOST/delivery",
    )
    forge_token_file: AbsolutePath = Field(
        default=Path("/secrets/forge_token"),
        alias="DELIVERY_FORGE_TOKEN_FILE",
        description="token that may set statuses",
    )

    mail_domains: Domains = Field(
        default="",
        alias="DELIVERY_MAIL_DOMAINS",
        description="domains whose authors get a mail of a refused push, with commas",
    )
    mail_file: AbsolutePath = Field(
        default=Path("/secrets/mail_uri"),
        alias="DELIVERY_MAIL_FILE",
        description="URI of the mail server",
    )
    chat_file: AbsolutePath = Field(
        default=Path("/secrets/chat_webhook"),
        alias="DELIVERY_CHAT_FILE",
        description="URL of a chat's webhook that hears of a refused push; without the file none",
    )

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of authors who get a mail, in lower case."""
        return tuple(each for each in self.mail_domains.lower().split(",") if each)


class MirrorSettings(VolumeSettings):
    """What ``mirror`` needs."""

    # In the task's own network namespace; Nomad says which address the port is published on.
    listen: IpAddress = Field(
        default="0.0.0.0",  # noqa: S104
        alias="DELIVERY_LISTEN",
        description="address of the read-only service",
    )
    port: int = Field(
        default=9418, ge=1, le=65535, alias="DELIVERY_PORT", description="port of the service"
    )
    connections: Positive = Field(
        default=32, alias="DELIVERY_CONNECTIONS", description="most clients at once"
    )
