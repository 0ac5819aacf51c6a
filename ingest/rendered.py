"""Connections by id from a file of secrets, which the template of a Nomad job renders.

The file is a JSON object: of each id what Vault holds, either ``conn_uri`` or the parts of a
connection by Airflow's names.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from frame.failure import WrongUse
from ingest.connections import Entry, from_parts
from ingest.errors import UnknownConnectionError

if TYPE_CHECKING:
    from pathlib import Path

_FILE = TypeAdapter(dict[str, dict[str, Any]])


class Rendered:
    """The connections of one job; never printed."""

    def __init__(self, file: Path) -> None:
        """Read ``file``. Raises WrongUse without repeating any of it."""
        try:
            self._secrets = _FILE.validate_json(file.read_bytes())
        except OSError as error:
            raise WrongUse(f"file {file} cannot be read: {error.strerror}", _RENDERED) from None
        except ValidationError:
            raise WrongUse(
                f"file {file}: expected a JSON object of an object for each connection, found"
                " something else",
                _RENDERED,
            ) from None

    def resolve(self, connection_id: str) -> Entry:
        """Return the connection of that id. Raises UnknownConnectionError."""
        if connection_id not in self._secrets:
            raise UnknownConnectionError(
                f"connection {connection_id}: expected one of those that this job has"
                f" ({', '.join(sorted(self._secrets))}), found another",
                hint="Name one of these in the pipeline file, or ask the platform team to add it to"
                " nomad/sources.toml.",
            )
        secret = self._secrets[connection_id]
        uri = str(secret.get("conn_uri") or "").strip()
        if uri:
            return Entry(connection_id, uri.partition(":")[0], uri)
        return from_parts(connection_id, secret)


def remove(*files: Path | None) -> None:
    """Remove what was read of secrets: Nomad keeps an allocation's files for days after its end."""
    for file in filter(None, files):
        with suppress(OSError):  # a folder that is not the task's keeps it
            file.unlink()


_RENDERED = "Let the job's Vault template render it, readable by the task's user."
