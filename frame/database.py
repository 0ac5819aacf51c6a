"""A session with a service's own database, which may come later than whoever needs it."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from frame import refusal
from frame.failure import Failure
from frame.trust import rooted

# Seconds for what no waiting mends: a password, a name, a certificate. Somebody may be changing it.
LASTING = 60.0
_LONGEST_PAUSE = 15.0


def libpq(uri: str) -> str:
    """Return a URI as Vault holds it - with SQLAlchemy's driver, perhaps - as libpq takes it."""
    return rooted(uri.strip().replace("postgresql+psycopg2:", "postgresql:", 1))


def opened(
    uri: str, *, name: str, purpose: str, patience: float
) -> psycopg.Connection[tuple[Any, ...]]:
    """Open a session in autocommit with the database that messages call ``name``.

    A server that lets nobody in is asked again for ``patience`` seconds, and no longer than LASTING
    if its refusal is no passing one; why stands on standard output at each try. ``purpose`` is what
    DBAs see in pg_stat_activity. Raises :class:`Failure`.
    """
    try:
        parameters: dict[str, Any] = conninfo_to_dict(
            libpq(uri), application_name=purpose, connect_timeout=10, client_encoding="UTF8"
        )
    except psycopg.ProgrammingError:  # it repeats the URI
        raise Failure(
            f"{name}: expected a URI of PostgreSQL, found something else",
            "Write it to Vault as postgresql://role:password@host:5432/database, specials as %40.",
        ) from None
    began, lasting_since, pause = time.monotonic(), float("inf"), 1.0
    while True:
        try:
            return psycopg.connect(**parameters, autocommit=True)
        except (psycopg.Error, ValueError) as error:
            cause = refusal.why(error, parameters)
        now = time.monotonic()
        lasting_since = float("inf") if cause.passes else min(lasting_since, now)
        if now - began >= patience or now - lasting_since >= LASTING:
            raise Failure(
                f"{name}: expected a connection, found {cause.words}",
                cause.hint
                or "See that the server runs, and that host, role and password are those of the URI"
                " in Vault.",
            )
        print(f"{name}: {cause.words}; it is asked again", flush=True)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
