"""How Airflow connects with its database: by libpq, and with the authorities that it trusts.

Airflow takes its settings from a module of this name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from frame.trust import rooted

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["create_async_metadata_engine", "create_metadata_engine"]


def create_metadata_engine(
    sql_alchemy_conn: str, *, engine_args: dict[str, Any], connect_args: dict[str, Any]
) -> Engine:
    """Make the engine of all that waits for its statements."""
    return create_engine(
        rooted(sql_alchemy_conn), connect_args=connect_args, **engine_args, future=True
    )


def create_async_metadata_engine(
    sql_alchemy_conn_async: str,
    *,
    connect_args: dict[str, Any],
    engine_args: dict[str, Any] | None = None,
) -> AsyncEngine:
    """Make the engine of what the api-server does beside other things.

    With psycopg: Airflow's own choice, asyncpg, does not take what a URI says of TLS.
    """
    uri = rooted(sql_alchemy_conn_async.replace("postgresql+asyncpg:", "postgresql+psycopg:", 1))
    return create_async_engine(uri, connect_args=connect_args, **(engine_args or {}), future=True)
