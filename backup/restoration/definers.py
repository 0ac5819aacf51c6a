"""Functions that run with their owner's rights, where everything is to belong to who restores.

Everybody may run a new function. Where owners are skipped, so are the rights that said otherwise,
and whoever wrote such a function would have what a superuser has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

import psycopg

from backup.postgres.connection import one_line
from backup.postgres.names import listed, printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from backup.postgres.connection import Connection


_DEFINERS: LiteralString = """
SELECT p.oid::int8,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE p.prosecdef AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
                  AND d.objid = p.oid AND d.deptype = 'e')
"""


def definers(connection: Connection) -> dict[int, str]:
    """Return the functions that are SECURITY DEFINER, by number, as SQL calls them."""
    return {number: called for number, called in connection.execute(_DEFINERS)}


def keep_from_others(connection: Connection, before: Collection[int]) -> Iterator[str]:
    """Let nobody but the owner run those that are not of ``before``; yield what is to be told."""
    kept = []
    for number, called in definers(connection).items():
        if number in before:
            continue
        try:
            revoke = f"REVOKE ALL ON ROUTINE {called} FROM PUBLIC"
            connection.execute(revoke.encode("utf-8", "surrogateescape"))
        except psycopg.Error as error:
            yield f"everybody may run {printable(called)} with your rights: {one_line(error)}"
        else:
            kept.append(printable(called))
    if kept:
        yield f"would run with your rights, so nobody else may run it: {listed(kept)}"
