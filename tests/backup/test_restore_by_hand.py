"""docs/restore-by-hand.md: its own commands, in their order, on a server that has nothing."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from scripts.repository import ROOT
from tests.backup.conftest import contents
from tests.conftest import PG_BIN, started_server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.backup.conftest import House, OpenPgpKey

PAGE = ROOT / "docs" / "restore-by-hand.md"
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def download(house: House, directory: Path) -> dict[str, str]:
    """Put what is in the bucket into ``directory``, as the web page does, and return the ids."""
    ids = {}
    for version, _ in house.bucket.ls(recursive=True):
        name = version.file_name.rpartition("/")[2]
        house.bucket.download_file_by_name(version.file_name).save_to(directory / name)
        ids[version.file_name.split("/")[2]] = name.partition(".")[0]
    return ids


@pytest.mark.programs
def test_the_page_restores_with_gpg_zstd_and_pg_restore_alone(
    house: House, recovery_key: OpenPgpKey, signing_key: OpenPgpKey, tmp_path: Path
) -> None:
    name = house.source.rpartition("/")[2]
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} SET work_mem TO '7MB'".encode())
        connection.execute("DROP ROLE IF EXISTS by_hand; CREATE ROLE by_hand")
        connection.execute("ALTER TABLE people OWNER TO by_hand")
        connection.execute('CREATE TABLE "a\nb\\\\t\tc $(d) ""e""\'f" AS SELECT 1 AS x')
        dumper = conninfo_to_dict(house.settings.secret("database_uri"))["user"]
        connection.execute(f"ALTER ROLE {dumper} SET lo_compat_privileges = on".encode())
        connection.execute("SELECT lo_from_bytea(0, repeat('x', 9000)::bytea)")
        for arguments in ("text, text, text", "text, name, name"):  # which nobody is to call
            connection.execute(
                f"CREATE FUNCTION public.format({arguments}) RETURNS text LANGUAGE plpgsql"
                " AS $$ BEGIN RAISE EXCEPTION 'planted'; END $$".encode()
            )
        assert house.run("run", "hr").returncode == 0
        uri = house.settings.secret("database_uri")
        house.secret("database_uri", house.server.uri())
        assert house.run("run", "postgres_globals").returncode == 0
        house.secret("database_uri", uri)
        expected = contents(house.source)
    house.read()
    ids = download(house, tmp_path)
    (tmp_path / "recovery-private.asc").write_text(recovery_key.private)
    signers = dict.fromkeys(("hr", "postgres_globals"), signing_key.public)
    (tmp_path / "signers.json").write_text(json.dumps(signers))
    script = "\n".join(BLOCK.findall(PAGE.read_text()))
    example = re.search(r"^NAME=hr ID=.*$", script, re.MULTILINE)
    assert example, "the page's line of variables"
    script = script.replace(
        example[0], f"NAME=hr ID={ids['hr']} GLOBALS={ids['postgres_globals']} SERVER=postgres"
    )
    with started_server(superuser="chief") as bare:
        ended = subprocess.run(
            ["bash", "-e", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={
                "PATH": f"{PG_BIN}:{os.environ['PATH']}", "HOME": str(tmp_path),
                "PGHOST": "127.0.0.1", "PGPORT": str(bare.port), "PGUSER": "chief",
                "PGPASSWORD": bare.password, "PGDATABASE": "postgres",
            },
        )  # fmt: skip
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "all tables have the rows of the manifest" in ended.stdout
        assert contents(bare.uri(name)) == expected
        with psycopg.connect(bare.uri(name)) as connection:
            asked = "SELECT current_setting('work_mem'), tableowner FROM pg_tables" \
                    " WHERE tablename = 'people'"  # fmt: skip
            assert connection.execute(asked).fetchone() == ("7MB", "by_hand")
    left = {path.name for path in tmp_path.iterdir()}
    assert not {"hr.dump", "globals.sql", "manifest.json"} & left
    with psycopg.connect(house.source, autocommit=True) as connection:
        connection.execute("DROP OWNED BY by_hand CASCADE; DROP ROLE by_hand")
