"""Writes the roles, the first administrator and the connection to the warehouse into Superset."""

from __future__ import annotations

from uuid import UUID

from superset import appbuilder, db, security_manager
from superset.models.core import Database

from dashboards.layout import DATABASE, DATABASE_UUID, SCHEMA
from dashboards.roles import ADMIN, OWN_ACCOUNT, ROLES
from dashboards.warehouse import bare
from frame.failure import Failure


def set_roles() -> None:
    """Give each role of :data:`dashboards.roles.ROLES` exactly its permissions, and the marts.

    Raises :class:`Failure` if this version of Superset does not know a permission.
    """
    appbuilder.add_permissions(update_perms=True)
    security_manager.sync_role_definitions()
    database = db.session.query(Database).filter_by(uuid=UUID(DATABASE_UUID)).one()
    marts = security_manager.get_schema_perm(
        database.database_name, database.get_default_catalog(), SCHEMA
    )
    security_manager.add_permission_view_menu("schema_access", marts)
    unknown = []
    for name, permissions in ROLES.items():
        role = security_manager.add_role(name)
        wanted = []
        for each in sorted({*permissions, *OWN_ACCOUNT, ("schema_access", marts)}):
            known = security_manager.find_permission_view_menu(*each)
            if known is not None:
                wanted.append(known)
            elif each not in OWN_ACCOUNT:
                unknown.append(" on ".join(each))
        role.permissions = wanted
    if unknown:
        db.session.rollback()
        raise Failure(
            f"Superset knows no permission {', '.join(sorted(set(unknown)))}",
            "Look at what this version calls it, and change dashboards/roles.py.",
        )
    db.session.commit()


def set_administrator(username: str, password: str) -> bool:
    """Make the first administrator if there is no account of that name; return whether it did.

    The password is set only then: after that it is theirs.
    """
    if security_manager.find_user(username=username) is not None:
        return False
    made = security_manager.add_user(
        username=username,
        first_name="Platform",
        last_name="Administrator",
        email=f"{username}@localhost",
        role=security_manager.find_role(ADMIN),
        password=password,
    )
    if not made:
        raise Failure(
            f"the administrator {username!r} could not be made",
            "See whether another account has the address of that name @localhost.",
        )
    return True


def set_warehouse(uri: str) -> None:
    """Let the database of the marts be there, at the server that ``uri`` names, without a password.

    The password joins when a connection opens (superset_config.DB_CONNECTION_MUTATOR).
    """
    database = db.session.query(Database).filter_by(uuid=UUID(DATABASE_UUID)).one_or_none()
    if database is None:
        database = Database(uuid=UUID(DATABASE_UUID))
        db.session.add(database)
    database.database_name = DATABASE
    database.sqlalchemy_uri = str(bare(uri))
    database.password = None
    database.expose_in_sqllab = True
    database.allow_run_async = False
    database.allow_ctas = False
    database.allow_cvas = False
    database.allow_dml = False
    database.allow_file_upload = False
    database.impersonate_user = False
    database.cache_timeout = None
    database.extra = '{"allows_virtual_table_explore": true, "disable_data_preview": false}'
    db.session.commit()
