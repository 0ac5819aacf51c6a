"""Which job's which task gets what: the one table that the job files are held against.

It is written out on purpose. A secret, a port, a volume or a capability that a job file gains is
gained here too, by someone who has thought about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

AIRFLOW = "50000:50000"
ANALYST = "50008:50000"
BACKUP = "50001:50001"
CONTAINER = "50012:50012"
INGEST = "50006:50006"
LOCAL = "50002:50002"
REDIS = "50003:50003"
STRANGER = "50004:50004"
SUPERSET = "50005:50005"


@dataclass(frozen=True)
class Task:
    """What one task may use; ``secrets`` are the paths below the environment's prefix."""

    image: str
    # Whom it runs as; one that begins in frame.launcher is root until then.
    user: str
    # The Vault role without the environment, and what its templates read with it.
    role: str | None = None
    secrets: set[str] = field(default_factory=set)
    # Where the task itself reads connections in Vault at run time, and the role that it logs in to.
    connections: str | None = None
    login: str | None = None
    # Identities that stand in the task as a file, and whether its token of Vault does.
    identities: set[str] = field(default_factory=set)
    vault_token: bool = False
    # Host volume to path; `:ro` where it may only be read.
    volumes: dict[str, str] = field(default_factory=dict)
    network_mode: str | None = None
    cap_add: list[str] = field(default_factory=list)
    # frame.launcher's options: to whom Nomad's folders are shut, and what is kept.
    launcher: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """A job's type, its tasks and its ports: label to (port of the host, port of the task).

    A task of a job with several groups is called GROUP/TASK.
    """

    type: str
    tasks: dict[str, Task]
    ports: dict[str, tuple[int | None, int]] = field(default_factory=dict)


STRANGERS_CHILDREN = ["--stranger=50009", "--keep=setuid,setgid,kill"]
FOR_CHILDREN = ["fowner", "setuid", "setgid", "kill"]


def _wait_for_migration(job: str, database: str) -> Task:
    secrets = {f"airflow/database/{database}"}
    return Task("airflow_image", AIRFLOW, role=job, secrets=secrets)


def _dag_processor(bundle: str) -> Job:
    job = f"airflow-dag-processor-{bundle}"
    return Job(
        "service",
        {
            "wait-for-migration": _wait_for_migration(job, "dag-processor"),
            "dag-processor": Task(
                "airflow_image",
                AIRFLOW,
                role=job,
                secrets={"airflow/database/dag-processor", "airflow/fernet"},
                cap_add=FOR_CHILDREN,
                network_mode="bridge",
                launcher=["--stranger=50009", "--stranger=50010", "--keep=setuid,setgid,kill"],
            ),
        },
        {"health": (None, 8974)},
    )


BACKS_UP = {
    "backup/b2/writer",
    "backup/recipients",
    "backup/manifest-recipient",
    "backup/alerts",
}


def _backup(name: str, path: str | None = None) -> Job:
    job = f"backup-{name}"
    secrets = BACKS_UP | {path or f"backup/databases/{name}", f"backup/signing/{name}"}
    return Job("batch", {"backup": Task("backup_image", BACKUP, role=job, secrets=secrets)})


def _snapshot(name: str) -> Job:
    """One of Nomad, asked with the task's identity, or of Vault, asked with its token."""
    return Job(
        "batch",
        {
            "backup": Task(
                "backup_image",
                BACKUP,
                role=f"backup-{name}",
                secrets=BACKS_UP | {f"backup/signing/{name}"},
                identities={"default"} if name == "nomad" else set(),
                vault_token=name == "vault",
            )
        },
    )


def _drill(name: str) -> Job:
    """The monthly one, or the one that waits to be dispatched."""
    server = Task(
        "backup_image",
        STRANGER,
        volumes={"scratch-server": "/scratch"},
        network_mode="none",
        cap_add=["fowner", "setuid", "setgid"],
        launcher=["--stranger=50004", "--pass=/alloc"],
    )
    return Job(
        "batch",
        {
            # Strangers' code with a superuser's rights: no network, no identity, no secret.
            "server": server,
            "drill": Task(
                "backup_image",
                BACKUP,
                role=name,
                secrets={
                    "backup/b2/drill",
                    "backup/b2/drill-results",
                    "backup/drill-key",
                    "backup/signing/restore-drill",
                    "backup/signers",
                    "backup/alerts",
                },
                volumes={"backup-scratch": "/scratch"},
            ),
            "sweep": Task("backup_image", BACKUP, volumes={"backup-scratch": "/scratch"}),
            "sweep-server": replace(server, cap_add=[], launcher=[]),
        },
    )


REDIS_USERS = {"redis/scheduler", "redis/worker-analysts"}


def _ingest(source: str) -> Job:
    folder = "connections/ingest"
    own = {f"{folder}/{source}", f"{folder}/hash_key/{source}"}
    secrets = own | {f"{folder}/warehouse", f"{folder}/warehouse_checks"}
    return Job(
        "batch", {"ingest": Task("ingest_image", INGEST, role=f"ingest-{source}", secrets=secrets)}
    )


TABLE: dict[str, Job] = {
    "container-meltano": Job(
        "batch",
        {
            "container": Task(
                "container_images",
                CONTAINER,
                role="container-meltano",
                secrets={"containers/meltano"},
            )
        },
    ),
    "ingest-hr": _ingest("hr"),
    "ingest-records": _ingest("records"),
    "ingest-service_desk": _ingest("service_desk"),
    "redis": Job(
        "service",
        {
            "broker": Task("redis_image", REDIS, role="redis", secrets=REDIS_USERS),
            "results": Task("redis_image", REDIS, role="redis", secrets=REDIS_USERS),
            "health": Task("redis_image", REDIS),
        },
        {"broker": (16379, 6379), "results": (16380, 6379), "health": (None, 8379)},
    ),
    "dag-mirror": Job(
        "service",
        {"git-daemon": Task("airflow_image", AIRFLOW, volumes={"dag-mirror": "/mirror"})},
        {"git": (15418, 9418)},
    ),
    "airflow-migrate": Job(
        "batch",
        {
            "migrate": Task(
                "airflow_image",
                AIRFLOW,
                role="airflow-migrate",
                secrets={"airflow/database/migrate", "airflow/fernet", "airflow/admin"},
            )
        },
    ),
    "airflow-clean": Job(
        "batch",
        {
            "clean": Task(
                "airflow_image", AIRFLOW, role="airflow-clean", secrets={"airflow/database/clean"}
            )
        },
    ),
    "airflow-logs": Job(
        "service",
        {
            "serve": Task(
                "airflow_image",
                AIRFLOW,
                role="airflow-logs",
                secrets={"airflow/api"},
                volumes={
                    "airflow-logs": "/var/log/airflow:ro",
                    "airflow-trigger-logs": "/var/log/airflow-triggers:ro",
                },
            ),
            # One a user: nobody else may remove what it wrote.
            "groom": Task("airflow_image", ANALYST, volumes={"airflow-logs": "/var/log/airflow"}),
            "groom-triggers": Task(
                "airflow_image", AIRFLOW, volumes={"airflow-trigger-logs": "/var/log/airflow"}
            ),
        },
        {"http": (8793, 8793)},
    ),
    "airflow-webserver": Job(
        "service",
        {
            "wait-for-migration": _wait_for_migration("airflow-webserver", "webserver"),
            "webserver": Task(
                "airflow_image",
                AIRFLOW,
                role="airflow-webserver",
                secrets={
                    "airflow/database/webserver",
                    "airflow/fernet",
                    "airflow/jwt",
                    "airflow/api",
                    "delivery/push-hook",
                    "airflow/warehouse",
                },
                identities={"default"},
            ),
        },
        {"http": (8080, 8080)},
    ),
    "airflow-scheduler": Job(
        "service",
        {
            "wait-for-migration": _wait_for_migration("airflow-scheduler", "scheduler"),
            "scheduler": Task(
                "airflow_image",
                AIRFLOW,
                role="airflow-scheduler",
                secrets={
                    "airflow/database/scheduler",
                    "airflow/fernet",
                    "airflow/jwt",
                    "redis/scheduler",
                },
            ),
        },
        {"health": (None, 8974)},
    ),
    "airflow-dag-processor-pipelines": _dag_processor("pipelines"),
    "airflow-dag-processor-analysts": _dag_processor("analysts"),
    "airflow-triggerer": Job(
        "service",
        {
            f"triggerer-{bundle}/{name}": task
            for bundle, identities in (("pipelines", {"runs"}), ("analysts", set[str]()))
            for name, task in (
                ("wait-for-migration", _wait_for_migration("airflow-triggerer", "triggerer")),
                (
                    "triggerer",
                    Task(
                        "airflow_image",
                        AIRFLOW,
                        role="airflow-triggerer",
                        secrets={"airflow/database/triggerer", "airflow/fernet"},
                        identities=identities,
                        volumes={"airflow-trigger-logs": "/var/log/airflow"},
                        cap_add=FOR_CHILDREN,
                        network_mode="bridge",
                        launcher=STRANGERS_CHILDREN,
                    ),
                ),
            )
        },
        {"health": (None, 8974)},
    ),
    "airflow-worker-analysts": Job(
        "service",
        {
            "wait-for-webserver": Task("airflow_image", ANALYST),
            "worker": Task(
                "airflow_image",
                ANALYST,
                role="airflow-worker-analysts",
                secrets={"redis/worker-analysts"},
                connections="connections/analysts",
                login="airflow-worker-analysts-connections",
                identities={"connections"},
                volumes={"airflow-logs": "/var/log/airflow"},
                cap_add=["fowner", "setuid", "setgid"],
                network_mode="bridge",
                launcher=["--stranger=50008", "--pass=/secrets"],
            ),
        },
        {"health": (None, 8974)},
    ),
    "dag-sync": Job(
        "batch",
        {
            "fetch": Task(
                "airflow_image",
                AIRFLOW,
                role="dag-sync",
                secrets={"delivery/remote", "delivery/alerts"},
                volumes={"dag-incoming": "/incoming", "dag-mirror": "/mirror:ro"},
            ),
            # Strangers' code: no network, no identity, no secret, and nothing that it could write.
            "judge": Task(
                "airflow_image",
                "root",
                volumes={"dag-incoming": "/incoming:ro"},
                network_mode="none",
                cap_add=FOR_CHILDREN,
                launcher=["--stranger=50009"],
            ),
            "publish": Task(
                "airflow_image",
                AIRFLOW,
                identities={"default"},
                volumes={"dag-incoming": "/incoming", "dag-mirror": "/mirror"},
            ),
        },
    ),
    "superset-migrate": Job(
        "batch",
        {
            "migrate": Task(
                "superset_image",
                SUPERSET,
                role="superset-migrate",
                secrets={
                    "superset/database/migrate",
                    "superset/secret-key",
                    "superset/warehouse",
                    "superset/admin",
                    "superset/oidc",
                },
            )
        },
    ),
    "superset": Job(
        "service",
        {
            "wait-for-migration": Task(
                "superset_image", SUPERSET, role="superset", secrets={"superset/database/web"}
            ),
            "superset": Task(
                "superset_image",
                SUPERSET,
                role="superset",
                secrets={
                    "superset/database/web",
                    "superset/secret-key",
                    "superset/warehouse",
                    "superset/oidc",
                },
            ),
        },
        {"http": (8088, 8088)},
    ),
    "superset-dashboards": Job(
        "batch",
        {
            "deliver": Task(
                "superset_image",
                SUPERSET,
                role="superset-dashboards",
                secrets={
                    "superset/database/dashboards",
                    "superset/secret-key",
                    "superset/warehouse",
                },
            )
        },
    ),
    "backup-hr": _backup("hr"),
    "backup-records": _backup("records"),
    "backup-service_desk": _backup("service_desk"),
    "backup-airflow": _backup("airflow"),
    "backup-superset": _backup("superset"),
    "backup-warehouse": _backup("warehouse"),
    "backup-postgres_globals": _backup("postgres_globals", "backup/servers/postgres"),
    "backup-nomad": _snapshot("nomad"),
    "backup-vault": _snapshot("vault"),
    "backup-coverage": Job(
        "batch",
        {
            "coverage": Task(
                "backup_image",
                BACKUP,
                role="backup-coverage",
                secrets={
                    "backup/servers/postgres",
                    "backup/b2/drill",
                    "backup/recipients",
                    "backup/manifest-recipient",
                    "backup/manifest-key",
                    "backup/signers",
                    "backup/alerts",
                },
                identities={"default"},
            )
        },
    ),
    "backup-monthly": Job(
        "batch",
        {
            "copy": Task(
                "backup_image",
                BACKUP,
                role="backup-monthly",
                secrets={
                    "backup/b2/copier",
                    "backup/manifest-key",
                    "backup/signers",
                    "backup/alerts",
                },
            )
        },
    ),
    "restore-drill": _drill("restore-drill"),
    "restore-drill-now": _drill("restore-drill-now"),
    "local-postgres": Job(
        "service",
        {
            "postgres": Task(
                "local_image",
                LOCAL,
                role="local-postgres",
                secrets={"local/postgres"},
                volumes={"local-postgres": "/var/lib/harmattan/postgres"},
            )
        },
        {"postgres": (15432, 5432)},
    ),
    "local-b2": Job(
        "service",
        {
            "b2": Task(
                "local_image",
                LOCAL,
                role="local-b2",
                secrets={"local/b2"},
                volumes={"local-b2": "/var/lib/harmattan/b2"},
            )
        },
        {"http": (15080, 9180)},
    ),
    "local-git": Job(
        "service",
        {
            "sshd": Task(
                "local_image",
                LOCAL,
                role="local-git",
                secrets={"local/git"},
                volumes={"local-git": "/var/lib/harmattan/git"},
            )
        },
        {"ssh": (15022, 2222)},
    ),
}

# What is read with a role only where a variable says so, below the prefix.
_MIRROR = {"delivery/mirror"}
BY_VARIABLE: dict[str, set[str]] = {
    "redis": {"redis/tls"},
    "airflow-scheduler": {"airflow/alerts"},
    "dag-sync-status": {"delivery/chat", "delivery/forge", "delivery/mail"},
    "airflow-webserver": _MIRROR,
    "airflow-dag-processor-pipelines": _MIRROR,
    "airflow-dag-processor-analysts": _MIRROR,
    "airflow-worker-analysts": _MIRROR,
    "superset-dashboards": _MIRROR,
    "ingest-hr": _MIRROR,
    "ingest-records": _MIRROR,
    "ingest-service_desk": _MIRROR,
}

# What workers' tasks ask for at run time, by the path that the job file names.
CONNECTIONS = {"connections/analysts": {"warehouse"}}


TASKS = [task for job in TABLE.values() for task in job.tasks.values()]
# Roles that a task has by a variable only, and the job of it.
ROLES_BY_VARIABLE = {"dag-sync-status": "dag-sync"}
ROLES = {role for task in TASKS for role in (task.role, task.login) if role} | {*ROLES_BY_VARIABLE}


def reads(role: str) -> set[str]:
    """Return every path below the prefix that is read with a role, at a start or at run time."""
    paths = set(BY_VARIABLE.get(role, ()))
    for task in TASKS:
        if task.role == role:
            paths |= task.secrets
        if task.connections and task.login == role:
            paths |= {f"{task.connections}/{name}" for name in CONNECTIONS[task.connections]}
    return paths


ALL_PATHS = sorted(set().union(*map(reads, ROLES)))
