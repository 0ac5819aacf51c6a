"""Which DAGs an environment has switched off: ``environments.toml`` of the analysts' repository.

A table for each environment, with patterns of DAG ids, such as::

    [staging]
    off = ["mail", "ingest_*"]
"""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FILE = "environments.toml"
MAX_BYTES = 65536
_LINE = re.compile(r" \(at line (\d+), column \d+\)")


class SwitchesError(Exception):
    """The file is not what it must be; ``line`` is 0 where none is known."""

    def __init__(self, what: str, line: int = 0) -> None:
        """Say ``what`` is wrong."""
        super().__init__(what)
        self.what, self.line = what, line


def read(content: bytes) -> dict[str, list[str]]:
    """Return the patterns that are off, by the environment. Raises SwitchesError."""
    if len(content) > MAX_BYTES:
        raise SwitchesError(f"expected at most {MAX_BYTES} bytes, found {len(content)}")
    try:
        tables = tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SwitchesError("expected UTF-8, found something else") from None
    except tomllib.TOMLDecodeError as error:
        found = _LINE.search(str(error))
        said = _LINE.sub("", str(error))
        raise SwitchesError(f"expected TOML: {said}", int(found[1]) if found else 0) from None
    except RecursionError:
        raise SwitchesError("expected a table for each environment, found deep nesting") from None
    return {name: _off(name, table) for name, table in tables.items()}


def _off(name: str, table: object) -> list[str]:
    if not isinstance(table, dict) or set(table) != {"off"}:
        raise SwitchesError(f"[{name}]: expected the one key off, found something else")
    patterns = table["off"]
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        raise SwitchesError(f"[{name}] off: expected a list of DAG ids, found something else")
    return [str(each) for each in patterns]


def is_off(dag_id: str, environment: str, switched: Mapping[str, Iterable[str]]) -> bool:
    """Return whether a DAG is off in an environment, by what :func:`read` returned."""
    return any(fnmatchcase(dag_id, pattern) for pattern in switched.get(environment, ()))
