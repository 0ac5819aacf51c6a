from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from cryptography.fernet import Fernet

from harmattan.fernet import unread

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    Program = Callable[..., subprocess.CompletedProcess[str]]

SEED = """
from airflow.models import Connection, Trigger, Variable
from airflow.utils.session import create_session
with create_session() as session:
    for number in range(250):
        Variable.set(f"v{number}", f"value {number}", session=session)
    session.add(Connection("c", "generic", password="secret", extra='{"a": 1}'))
    session.add(Connection("bare", "generic"))
    for wait in (1, 2):
        session.add(Trigger("a.b.C", {"wait": wait}))
"""
READ = """
from airflow.models import Connection, Trigger, Variable
from airflow.utils.session import create_session
with create_session() as session:
    one = session.query(Connection).filter_by(conn_id="c").one()
    print(one.password, one.extra, Variable.get("v249"), *(
        each.kwargs["wait"] for each in session.query(Trigger).order_by(Trigger.id)))
"""
ROTATE = "from harmattan.fernet import main; main()"
MODELS = """
from airflow.models import Connection, Trigger, Variable
from airflow.models.base import Base
from airflow.models.connection_test import ConnectionTestRequest
print(*sorted(m.class_.__tablename__ for m in Base.registry.mappers
              if hasattr(m.class_, "rotate_fernet_key")))
"""


def test_what_is_encrypted_is_what_airflow_itself_rotates(airflow_program: Program) -> None:
    done = airflow_program(MODELS)
    assert done.stdout.split() == ["connection", "connection_test_request", "trigger", "variable"]


@pytest.mark.programs
def test_every_row_is_read_with_the_new_key_alone_or_the_old_one_is_kept(
    airflow_program: Program, metadata_database: Callable[[], str]
) -> None:
    uri = metadata_database()
    old, new, strange = (Fernet.generate_key().decode() for _ in range(3))

    def run(code: str, *keys: str) -> subprocess.CompletedProcess[str]:
        return airflow_program(
            code,
            AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=uri.replace("postgresql:", "postgresql+psycopg2:"),
            AIRFLOW__CORE__FERNET_KEY=",".join(keys),
        )

    seeded = run(SEED, old)
    assert seeded.returncode == 0, seeded.stderr
    with psycopg.connect(uri, autocommit=True) as connection:
        count, left = unread(connection, [new])
        assert (count, len(left)) == (254, 254)
        # A key that did not write them is refused by the first look, and nothing changes.
        done = run(ROTATE, new)
        assert done.returncode == 1
        assert "no key of the secret reads: arguments of the trigger 1, " in done.stderr
        assert "HINT: Add the key" in done.stderr
        assert unread(connection, [old]) == (254, [])
        # With both, all is encrypted again; a second time changes nothing that matters.
        for _ in range(2):
            done = run(ROTATE, new, old)
            assert (done.returncode, done.stdout) == (
                0, "254 values are encrypted with the first key, and it reads each of them\n",
            ), done.stderr  # fmt: skip
        assert unread(connection, [new]) == (254, [])
        assert run(READ, new).stdout == 'secret {"a": 1} value 249 1 2\n'
        # One row of a component that still writes with another key is named.
        connection.execute(
            "UPDATE variable SET val = %s WHERE key = 'v7'",
            (Fernet(strange).encrypt(b"late").decode(),),
        )
        done = run(ROTATE, new, old)
        assert done.returncode == 1
        assert done.stderr.startswith("no key of the secret reads: variable v7\n")
    for key in (old, new, strange):
        assert key not in done.stdout + done.stderr
