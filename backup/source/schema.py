"""A fingerprint of each object of a schema, from what ``pg_dump --schema-only`` writes of it."""

from __future__ import annotations

import hashlib
import re
from itertools import zip_longest
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from backup.manifest import SchemaObject
from backup.pipeline import Pipeline, Stage
from backup.postgres.connection import KEEPALIVES
from backup.postgres.names import UNCONVERTED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backup.postgres.connection import PostgresUri

# Its grants stand in an order of their own, which a restore may change.
PRIVILEGES = ("ACL", "DEFAULT ACL")
_HEADER = re.compile(
    rb"^--\n-- Name: (?P<name>.*); Type: (?P<kind>[A-Z ]+); Schema: (?P<schema>.*); "
    rb"Owner: (?P<owner>.*?)(; Tablespace: .*)?\n--$",
    re.MULTILINE,
)
# Between two entries pg_dump says where the next one goes, and at the end that it is complete.
_BETWEEN = re.compile(rb"|--( PostgreSQL .*)?|\\(un)?restrict .*|SET default_\w+ = .*;")
# The roles of a policy stand in the order in which a server made them.
_ROLE = rb'(?:"(?:[^"]|"")+"|\w+)'
_TO_ROLES = re.compile(
    rb"(?<= TO )" + _ROLE + rb"(?:, " + _ROLE + rb")+(?= (?:USING|WITH CHECK) |;)"
)
_OWNER = re.compile(rb"ALTER .* OWNER TO .*;")


def fingerprints(
    pg_bin: Path,
    uri: PostgresUri,
    encoding: str,
    *options: str,
) -> tuple[SchemaObject, ...]:
    """Return each object of the database, whose ``encoding`` is as the server calls it.

    ``options`` are pg_dump's, such as the snapshot to read. Raises ChildFailed.
    """
    argv: list[str | Path] = [
        pg_bin / "pg_dump", "--schema-only", "--no-password", *options,
        # A name has one spelling in all databases, where its server can convert it.
        *([] if encoding in UNCONVERTED else ["--encoding=UTF8"]),
        f"--dbname={make_conninfo(dbname=uri.database(), **KEEPALIVES)}",
    ]  # fmt: skip
    stage = Stage(argv, uri.environment())
    with Pipeline([stage], hint="Look at the message of pg_dump.") as pipeline:
        return parse(pipeline.read_all())


def parse(script: bytes) -> tuple[SchemaObject, ...]:
    """Return each object of a plain dump, by kind and name; what has one name is one object."""
    texts: dict[tuple[str, str, str], list[tuple[str, bytes]]] = {}
    for header, text in _entries(script):
        kind, schema, name, owner = (
            header[part].decode("utf-8", "backslashreplace").strip()
            for part in ("kind", "schema", "name", "owner")
        )
        if kind == "POLICY":
            text = _TO_ROLES.sub(_in_order, text)  # noqa: PLW2901 - the same, said alike
        lines, is_owned = _normal(text)
        if kind in PRIVILEGES:
            lines.sort()
        key = kind, "" if schema == "-" else schema, name
        texts.setdefault(key, []).append((owner if is_owned else "", b"\n".join(lines)))
    return tuple(
        SchemaObject(
            kind=key[0], schema_name=key[1], name=key[2], owner=min(owner for owner, _ in found),
            digest=hashlib.sha256(b"\0".join(sorted(text for _, text in found))).hexdigest(),
        )
        for key, found in sorted(texts.items())
    )  # fmt: skip


def _entries(script: bytes) -> Iterator[tuple[re.Match[bytes], bytes]]:
    headers = list(_HEADER.finditer(script))
    for header, after in zip_longest(headers, headers[1:]):
        yield header, script[header.end() : after.start() if after else len(script)]


def _in_order(roles: re.Match[bytes]) -> bytes:
    return b", ".join(sorted(re.findall(_ROLE, roles[0])))


def _normal(text: bytes) -> tuple[list[bytes], bool]:
    """Return an entry's lines without what stands around it, and whether it has its own owner.

    Who that is stands in the header, as it does of what goes with its table.
    """
    lines, is_owned = text.split(b"\n"), False
    while lines and (_BETWEEN.fullmatch(lines[-1]) or _OWNER.fullmatch(lines[-1])):
        is_owned = bool(_OWNER.fullmatch(lines.pop())) or is_owned
    while lines and _BETWEEN.fullmatch(lines[0]):
        lines.pop(0)
    return lines, is_owned
