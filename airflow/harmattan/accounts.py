"""Who may do what in Airflow's UI and API: roles for the platform team and for analysts."""

from __future__ import annotations

import airflow.providers.fab.www.security.permissions as p
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

# Analysts watch and steer runs. They have no connections, variables, pools or configuration: what
# a DAG needs reaches it from Vault.
ANALYST = [
    (action, resource)
    for action, resources in {
        p.ACTION_CAN_READ: (
            p.RESOURCE_WEBSITE,
            p.RESOURCE_MY_PROFILE,
            p.RESOURCE_DAG,
            p.RESOURCE_DAG_CODE,
            p.RESOURCE_DAG_DEPENDENCIES,
            p.RESOURCE_DAG_RUN,
            p.RESOURCE_DAG_VERSION,
            p.RESOURCE_DAG_WARNING,
            p.RESOURCE_TASK_INSTANCE,
            p.RESOURCE_TASK_LOG,
            p.RESOURCE_XCOM,
            p.RESOURCE_ASSET,
            p.RESOURCE_IMPORT_ERROR,
            p.RESOURCE_JOB,
            p.RESOURCE_HITL_DETAIL,
            p.RESOURCE_PLUGIN,  # the menu shows pages of plugins to those who may list plugins
        ),
        p.ACTION_CAN_EDIT: (p.RESOURCE_DAG, p.RESOURCE_DAG_RUN, p.RESOURCE_TASK_INSTANCE),
        p.ACTION_CAN_CREATE: (p.RESOURCE_DAG_RUN, p.RESOURCE_ASSET),
        p.ACTION_CAN_ACCESS_MENU: (
            p.RESOURCE_DAG,
            p.RESOURCE_DAG_RUN,
            p.RESOURCE_TASK_INSTANCE,
            p.RESOURCE_ASSET,
            p.RESOURCE_BROWSE_MENU,
            p.RESOURCE_DOCS_MENU,
        ),
    }.items()
    for resource in resources
]
# The platform team adds what is needed to run the platform, but not users and roles (Admin).
PLATFORM = [
    *ANALYST,
    *[
        (action, resource)
        for action in (
            p.ACTION_CAN_READ,
            p.ACTION_CAN_CREATE,
            p.ACTION_CAN_EDIT,
            p.ACTION_CAN_DELETE,
            p.ACTION_CAN_ACCESS_MENU,
        )
        for resource in (p.RESOURCE_POOL, p.RESOURCE_VARIABLE, p.RESOURCE_BACKFILL)
    ],
    # Their names, which `make status` shows, and their end: they belong into Vault.
    (p.ACTION_CAN_READ, p.RESOURCE_CONNECTION),
    (p.ACTION_CAN_DELETE, p.RESOURCE_CONNECTION),
    (p.ACTION_CAN_DELETE, p.RESOURCE_DAG),
    (p.ACTION_CAN_DELETE, p.RESOURCE_DAG_RUN),
    (p.ACTION_CAN_READ, p.RESOURCE_AUDIT_LOG),
    (p.ACTION_CAN_READ, p.RESOURCE_CLUSTER_ACTIVITY),
    (p.ACTION_CAN_READ, p.RESOURCE_PROVIDER),
    (p.ACTION_CAN_ACCESS_MENU, p.RESOURCE_ADMIN_MENU),
]


def set_up(*, username: str, password: str) -> None:
    """Create or update the two roles, and the first administrator if there is none.

    An administrator's password is only set when the account is made: after that it is theirs.
    """
    with get_application_builder() as builder:
        security = builder.sm
        security.sync_roles()
        security.bulk_sync_roles(
            [{"role": "Platform", "perms": PLATFORM}, {"role": "Analyst", "perms": ANALYST}]
        )
        if security.find_user(username=username) is None:
            made = security.add_user(
                username=username,
                first_name="Platform",
                last_name="Administrator",
                email=f"{username}@localhost",
                role=security.find_role("Admin"),
                password=password,
            )
            if not made:
                raise RuntimeError(f"the administrator {username!r} could not be created")
            print(f"created the administrator {username!r}", flush=True)
