"""What a child said on its standard error although it ended well, without what nobody may read.

A program's own words name objects. A message of the server's can be anybody's, such as that of a
trigger at login, and hold anything; of those only what PostgreSQL itself is known to say is shown.
"""

from __future__ import annotations

import re

MOST = 100  # lines of one child that are kept
LONGEST = 300  # characters of a line
_LINES_OF_SERVER = re.compile(r"^(?:[\w.-]+: )?(?P<severity>[^\s:]+):  (?P<message>.*)$")
_KNOWN = re.compile(r"^database .* has (a collation version mismatch|no actual collation version)")
_PASSED_OVER = re.compile(r"^(\[GNUPG:\]|\s|[\w.-]+: (hint|HINT): |\S+:  ?$)")


def complaints(program: str, text: str) -> tuple[str, ...]:
    """Return the lines of ``text``, the standard error of ``program``, that are worth keeping."""
    lines = []
    in_message = False  # what follows on a server's line belongs to it
    for line in text.splitlines():
        own = line.startswith(f"{program}: ")
        found = _LINES_OF_SERVER.match(line)
        if found and found["severity"] in ("DETAIL", "HINT", "CONTEXT", "QUERY", "LOCATION"):
            continue
        if found:
            in_message = True
            known = _KNOWN.match(found["message"])
            message = known[0] if known else "a message of the server's (…)"
            lines.append(f"{program}: {found['severity']}: {message}")
        elif own and not _PASSED_OVER.match(line):
            in_message = False
            lines.append(line[:LONGEST])
        elif not (own or in_message or not line.strip() or _PASSED_OVER.match(line)):
            lines.append(f"{program}: {line[:LONGEST]}")
    said = list(dict.fromkeys(lines))
    more = [f"{program}: and {len(said) - MOST} lines more"] if len(said) > MOST else []
    return (*said[:MOST], *more)
