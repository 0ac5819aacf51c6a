"""Which SQL may go to the warehouse: one that reads, and nothing that changes a session's limits.

The reader's role holds no right to write; but PostgreSQL lets every login lift its own time limit.
"""

from __future__ import annotations

import sqlglot
from sqlglot import expressions


def refusal(text: str) -> str | None:
    """Return why ``text`` is not sent to the warehouse; None if each statement of it reads."""
    try:
        statements = [each for each in sqlglot.parse(text, dialect="postgres") if each]
    except (sqlglot.ParseError, sqlglot.TokenError):
        return "it cannot be read as SQL of PostgreSQL"
    for statement in statements:
        if not isinstance(statement, expressions.Query):
            return f"{statement.key.upper()} is not a query: only SELECT goes to the warehouse"
    return None
