"""``python -m harmattan.fernet``: encrypt what Airflow's database holds with the first Fernet key.

For the time between two keys, when the secret is ``NEW,OLD``. Each row is read before and, with the
new key alone, after: this ends well only when the old one can go.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import tenacity
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy.orm.exc import StaleDataError

from frame import database
from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence

TRIES = 5
PATIENCE = 60.0  # seconds for a database that lets nobody in
# What is encrypted, by what people call it. The models with `rotate_fernet_key`.
ENCRYPTED = """
SELECT 'password of the connection ' || conn_id, password FROM connection
WHERE is_encrypted AND password <> ''
UNION ALL SELECT 'extra of the connection ' || conn_id, extra FROM connection
WHERE is_extra_encrypted AND extra <> ''
UNION ALL SELECT 'variable ' || key, val FROM variable WHERE is_encrypted AND val <> ''
UNION ALL SELECT 'arguments of the trigger ' || id, kwargs FROM trigger
WHERE kwargs <> '' AND kwargs NOT LIKE '{%'
UNION ALL SELECT 'password of the connection test ' || id, password FROM connection_test_request
WHERE is_encrypted AND password <> ''
UNION ALL SELECT 'extra of the connection test ' || id, extra FROM connection_test_request
WHERE is_extra_encrypted AND extra <> ''
ORDER BY 1
"""


def unread(connection: Any, keys: Sequence[str]) -> tuple[int, list[str]]:
    """Return how many values are encrypted, and which of them none of ``keys`` reads."""
    reads = MultiFernet([Fernet(key) for key in keys])
    with connection.cursor() as cursor:
        cursor.execute(ENCRYPTED)
        rows = cursor.fetchall()
    found = []
    for name, value in rows:
        try:
            reads.decrypt(value)
        except InvalidToken:
            found.append(name)
    return len(rows), found


# A trigger may end while it is encrypted again.
@tenacity.retry(
    retry=tenacity.retry_if_exception_type(StaleDataError),
    stop=tenacity.stop_after_attempt(TRIES),
    wait=tenacity.wait_random_exponential(max=10),
    reraise=True,
)
def _rotate() -> None:
    from airflow.cli.cli_parser import get_parser
    from airflow.cli.commands.rotate_fernet_key_command import rotate_fernet_key

    rotate_fernet_key(get_parser().parse_args(["rotate-fernet-key"]))


def main() -> None:
    """Encrypt all again with the configured keys, of which the first is the new one."""
    from airflow.configuration import conf

    uri = conf.get_mandatory_value("database", "sql_alchemy_conn")
    keys = conf.get_mandatory_value("core", "fernet_key").split(",")
    try:
        count = renew(uri, keys)
    except Failure as failure:
        sys.exit(f"{failure.message}\nHINT: {failure.hint}")
    print(f"{count} values are encrypted with the first key, and it reads each of them", flush=True)


def renew(uri: str, keys: Sequence[str]) -> int:
    """Encrypt all again and return how many values there are.

    Raises :class:`Failure` for values that none of ``keys`` reads, before anything is changed, and
    for those that the first one does not read at the end.
    """
    with database.opened(
        uri, name="Airflow's database", purpose="harmattan.fernet", patience=PATIENCE
    ) as connection:
        if lost := unread(connection, keys)[1]:
            raise Failure(
                f"no key of the secret reads: {', '.join(lost)}",
                "Add the key that wrote them behind the others, or delete them.",
            )
        _rotate()
        count, left = unread(connection, keys[:1])
        if left:
            raise Failure(
                f"the first key does not read: {', '.join(left)}",
                "Keep the old key, restart what still writes with it, and run this again.",
            )
    return count


if __name__ == "__main__":
    main()
