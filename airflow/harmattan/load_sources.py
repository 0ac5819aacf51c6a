"""What a dlt source needs of a connection: from Vault in a task, from AIRFLOW_CONN_ at a desk."""

from __future__ import annotations

from dataclasses import dataclass, field

from sqlalchemy import URL

from harmattan import connections
from ingest.connections import webhook
from ingest.errors import UnknownConnectionError


@dataclass(frozen=True)
class Service:
    """A web service: its base address, and the token that it knows us by; never printed."""

    url: str
    token: str = field(repr=False)


def service(connection_id: str) -> Service:
    """Return the service of a connection whose password is the token.

    Raises UnknownConnectionError.
    """
    entry = connections.resolve(connection_id)
    url = webhook(entry).url
    token = str(entry.parts.get("password") or "")
    if not token:
        raise UnknownConnectionError(
            f"connection {connection_id}: expected a token as its password, found none",
            hint="It is written https://:TOKEN@HOST/PATH.",
        )
    return Service(url, token)


def mariadb(connection_id: str) -> URL:
    """Return where a MariaDB or MySQL is; parameters of PyMySQL, such as ssl_ca, from its extra.

    Raises UnknownConnectionError.
    """
    entry = connections.resolve(connection_id)
    if entry.kind not in {"mysql", "mariadb"}:
        raise UnknownConnectionError(
            f"connection {connection_id}: expected a MariaDB, found another kind",
            hint="It takes a mysql://user:password@host:3306/database URI.",
        )
    limits = {"connect_timeout": "10", "read_timeout": "300"}  # seconds
    extra = {str(name): str(value) for name, value in entry.extra.items()}
    return URL.create(
        "mysql+pymysql",
        username=entry.parts.get("login"),
        password=entry.parts.get("password"),
        host=entry.parts.get("host"),
        port=entry.parts.get("port"),
        database=entry.parts.get("schema"),
        query={"charset": "utf8mb4", **limits, **extra},
    )
