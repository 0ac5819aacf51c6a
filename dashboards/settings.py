"""The settings of Superset and of the command ``dashboards``: plain variables, and secret files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from frame.failure import WrongUse
from frame.settings import Settings as Plain
from frame.trust import rooted

# Both are what a URI of PostgreSQL may begin with; SQLAlchemy wants its driver named.
_DRIVER = "postgresql+psycopg2:"


class Settings(Plain):
    """Where secrets stand, and what differs between one machine and a cluster."""

    PREFIX: ClassVar[str] = "DASHBOARDS_"

    metadata_uri_file: Path = Field(description="A file with the URI of Superset's own database")
    secret_key_file: Path | None = Field(
        default=None, description="A file with the key that signs and encrypts"
    )
    warehouse_uri_file: Path | None = Field(
        default=None, description="A file with the URI of the warehouse, as its reader"
    )
    admin_file: Path | None = Field(
        default=None, description='A file with the first administrator: {"username", "password"}'
    )
    web_role: str = Field(
        default="superset_web",
        description="The service's own role in Superset's database, which alone writes accounts",
    )
    oidc_file: Path | None = Field(
        default=None,
        description='A file with {"issuer", "client_id", "client_secret"}; without it people have '
        "passwords of Superset's own",
    )
    mirror: str = Field(
        default="", description="The DAG mirror's URL, such as git://mirror.example.org:9418"
    )
    git_config: Path | None = Field(
        default=None, description="A file of git's configuration that logs in at the mirror"
    )
    proxy_addresses: str = Field(
        default="127.0.0.1",
        alias="FORWARDED_ALLOW_IPS",
        description="Proxies whose word on who asks, and how, is believed: addresses or networks, "
        "with commas",
    )
    plain_http: bool = Field(
        default=False, description="1 where no proxy with TLS stands before it: one machine"
    )
    cache: Path = Field(
        default=Path("/tmp/superset"),  # noqa: S108 - the task's own
        description="The folder of cached results",
    )

    def read_metadata_uri(self) -> str:
        """Return the URI of Superset's database, as SQLAlchemy takes it."""
        return rooted(_with_driver(_read(self.metadata_uri_file, "DASHBOARDS_METADATA_URI_FILE")))

    def read_secret_key(self) -> str:
        """Return the key that signs cookies and encrypts what the database keeps."""
        return _read(self.secret_key_file, "DASHBOARDS_SECRET_KEY_FILE")

    def read_warehouse_uri(self) -> str:
        """Return the URI of the warehouse, as SQLAlchemy takes it; empty if there is no file."""
        if self.warehouse_uri_file is None:
            return ""
        return _with_driver(_read(self.warehouse_uri_file, "DASHBOARDS_WAREHOUSE_URI_FILE"))

    def read_admin(self) -> dict[str, str]:
        """Return the first administrator's name and password."""
        return _read_object(self.admin_file, "DASHBOARDS_ADMIN_FILE", ("username", "password"))

    def read_oidc(self) -> dict[str, str] | None:
        """Return how people log in by OIDC; None if the file is not set, or its issuer is empty."""
        if self.oidc_file is None:
            return None
        fields = ("issuer", "client_id", "client_secret")
        oidc = _read_object(self.oidc_file, "DASHBOARDS_OIDC_FILE", fields)
        return {**oidc, "issuer": oidc["issuer"].rstrip("/")} if oidc["issuer"] else None


def _with_driver(uri: str) -> str:
    return _DRIVER + uri.partition(":")[2] if uri.startswith("postgres") else uri


def _read(path: Path | None, variable: str) -> str:
    if path is None:
        raise WrongUse(f"{variable} is not set", "Name the file in the job's env block.")
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise WrongUse(
            f"the file of {variable} cannot be read: {error.strerror}",
            "Name a file that this user may read, in the job's env block.",
        ) from None
    if not text:
        raise WrongUse(f"the file of {variable} is empty", "Write the secret to Vault.")
    return text


def _read_object(path: Path | None, variable: str, fields: tuple[str, ...]) -> dict[str, str]:
    try:
        read = json.loads(_read(path, variable))
        return {field: str(read[field]) for field in fields}
    except (ValueError, KeyError, TypeError):
        raise WrongUse(
            f"the file of {variable} is not a JSON object with {', '.join(fields)}",
            "Write these fields to its path in Vault.",
        ) from None
