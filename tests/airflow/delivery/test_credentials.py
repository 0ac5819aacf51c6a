"""Credentials in a push: each is made when the test runs, and none stands in this repository."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import string
import textwrap
import time
import uuid
from random import Random
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from delivery.credentials import scan
from delivery.verdict import MOST_ALIKE, thinned
from scripts.repository import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from delivery.verdict import Finding

ALNUM = string.ascii_letters + string.digits
PLAIN = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def chars(random: Random, count: int, alphabet: str = ALNUM) -> str:
    return "".join(random.choice(alphabet) for _ in range(count))


def encoded(random: Random, count: int) -> str:
    return base64.b64encode(random.randbytes(count)).decode()


def wrapped(random: Random, width: int) -> str:
    """Return a picture in base64, as programs wrap it."""
    return "\n".join(textwrap.wrap(encoded(random, 900), width))


def encoded_text(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def jwt(random: Random) -> str:
    parts = [json.dumps({"alg": "HS256", "typ": "JWT"}), json.dumps({"sub": chars(random, 12)})]
    head = [base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts]
    return ".".join([*head, chars(random, 43)])


FORMS: dict[str, Callable[[Random], str]] = {
    "an AWS access key": lambda r: "AKIA" + chars(r, 16, string.ascii_uppercase + "234567"),
    "a GitHub token": lambda r: "ghp_" + chars(r, 36),
    "a GitLab token": lambda r: "glpat-" + chars(r, 20),
    "a Slack token": lambda r: f"xoxb-{chars(r, 12, '123456789')}-{chars(r, 24)}",
    "a Stripe key": lambda r: "sk_live_" + chars(r, 24),
    "a SendGrid key": lambda r: f"SG.{chars(r, 22)}.{chars(r, 43)}",
    "an OpenAI key": lambda r: f"sk-proj-{chars(r, 74)}T3BlbkFJ{chars(r, 74)}",
    "a Vault token": lambda r: "hvs." + chars(r, 90),
    "a Google API key": lambda r: "AIza" + chars(r, 35),
    "a JSON web token": jwt,
    "a URI with a password": lambda r: f"postgresql://hr:{chars(r, 16)}@db.school.edu.gh:5432/hr",
    # Of 48 characters one in 400 has so many that could be words that it is let by.
    "a long random string": lambda r: chars(r, 96),
}
FILES: dict[str, Callable[[str], str]] = {
    "dags/a.py": lambda key: f'import os\n\nKEY = "{key}"\n',
    "dags/b.py": lambda key: f"# {key}\n",
    "pipelines/c.yaml": lambda key: f"name: c\nsource:\n  key: {key}\n",
    ".env": lambda key: f"A=1\nKEY={key}\n",
    "models/d.sql": lambda key: f"select 1 -- {key}\n",
    "README.md": lambda key: f"# Read\n\nUse `{key}` here.\n",
    "e.toml": lambda key: f'[a]\nkey = "{key}"\n',
    "f.ipynb": lambda key: json.dumps(
        {"cells": [{"cell_type": "code", "source": ["import os\n", f"KEY = '{key}'\n"]}]}, indent=1
    ),
    "g.ipynb": lambda key: json.dumps(
        {"cells": [{"cell_type": "code", "source": "1",
                    "outputs": [{"data": {"text/plain": [f"'{key}'"]}}]}]}, indent=1
    ),
}  # fmt: skip


def of(tree: Path, name: str, content: str | bytes) -> list[Finding]:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return scan(tree, [name])


def line_of(content: str, part: str) -> int:
    return content[: content.index(part)].count("\n") + 1


@PLAIN
@given(
    st.sampled_from(sorted(FORMS)), st.sampled_from(sorted(FILES)), st.randoms(use_true_random=True)
)
def test_each_form_is_found_in_each_kind_of_file_and_not_shown(
    tmp_path: Path, kind: str, name: str, random: Random
) -> None:
    key = FORMS[kind](random)
    content = FILES[name](key)
    findings = of(tmp_path, name, content)
    assert (kind, line_of(content, key)) in {
        (each.what.removesuffix(" stands here"), each.line) for each in findings
    }
    shown = repr(findings)
    assert not any(key[start : start + 8] in shown for start in range(8, len(key) - 8))


JOINS: list[Callable[[str, int], str]] = [
    lambda key, at: f'K = "{key[:at]}" + "{key[at:]}"\n',
    lambda key, at: f'K = ("{key[:at]}"\n     "{key[at:]}")\n',
    lambda key, at: f"K = f\"{{'{key[:at]}'}}{key[at:]}\"\n",
    lambda key, at: f'K = "".join(["{key[:at]}", "{key[at:]}"])\n',
    lambda key, at: f'K = "%s{key[at:]}" % "{key[:at]}"\n',
    lambda key, at: f'K = b"{key[:at]}" + b"{key[at:]}"\n',
    lambda key, at: "K = " + " + ".join(f'"{each}"' for each in key) + "\n",
]


@PLAIN
@given(
    st.sampled_from(["\n", "\ufeff\n"]), st.sampled_from(JOINS), st.integers(3, 20),
    st.randoms(use_true_random=True),
)  # fmt: skip
def test_what_python_puts_together_is_found(
    tmp_path: Path, start: str, join: Callable[[str, int], str], at: int, random: Random
) -> None:
    findings = of(tmp_path, "dags/a.py", start + join("ghp_" + chars(random, 36), at))
    assert (findings[0].line, findings[0].what) == (2, "a GitHub token stands here")


def private_key() -> str:
    key = Ed25519PrivateKey.generate()
    form = serialization.PrivateFormat.PKCS8
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()


def test_a_private_key_is_found_however_it_is_written(tmp_path: Path) -> None:
    key = private_key()
    for name, content in {
        "a.pem": key,
        "a.yaml": "key: |\n" + "".join(f"  {line}\n" for line in key.splitlines()),
        "a.py": f"KEY = {key!r}\n",
        "a.json": json.dumps({"key": key}),
        "a.txt": base64.b64encode(key.encode()).decode(),
        "a.ppk": f"PuTTY-User-Key-File-3: ssh-rsa\nPrivate-Lines: 14\n{wrapped(Random(), 64)}",
        "b.txt": ("\ufeff" + key).encode("utf-16-le"),
        "c.txt": key.encode("utf-16-le"),
    }.items():
        whats = {each.what for each in of(tmp_path, name, content)}
        assert "a private key stands here" in whats, name


@pytest.mark.parametrize("name", ["a.py", ".env", "a.yaml"])
def test_a_value_that_is_called_a_password_is_found(tmp_path: Path, name: str) -> None:
    value = "aB3" + uuid.uuid4().hex[:9]
    sign = ": " if name == "a.yaml" else "="
    quote = '"' if name == "a.py" else ""
    findings = of(tmp_path, name, f"db_password{sign}{quote}{value}{quote}\n")
    assert [each.what for each in findings] == ["a password or key stands here"]


@pytest.mark.parametrize(
    "line",
    [
        'psycopg.connect("host=db.school.edu.gh password={} dbname=hr")',
        "SQLALCHEMY=mssql://db;User=hr;Password={};Encrypt=yes",
        "SMTP_PASS={}",
        "pass: {}",
    ],
)
def test_a_password_is_found_in_a_connections_text(tmp_path: Path, line: str) -> None:
    findings = of(tmp_path, "a.py", line.format("aB3" + uuid.uuid4().hex[:9]) + "\n")
    assert [each.what for each in findings] == ["a password or key stands here"]


def test_a_table_of_them_is_few_findings_and_hides_no_key(tmp_path: Path) -> None:
    random = Random()
    rows = "".join(f"{n},{chars(random, 64)}=\n" for n in range(5000))
    findings = thinned(of(tmp_path, "a.csv", f"id,mark\n{rows}5000,ghp_{chars(random, 36)}\n"))
    assert len(findings) == MOST_ALIKE + 1
    assert findings[0].what == "a GitHub token stands here"
    assert re.fullmatch(r"\d{4} more stand from here on", findings[-1].what)


LOOK_ALIKES: list[Callable[[Random], str]] = [
    lambda r: hashlib.md5(r.randbytes(9), usedforsecurity=False).hexdigest(),
    lambda r: hashlib.sha1(r.randbytes(9), usedforsecurity=False).hexdigest(),
    lambda r: hashlib.sha256(r.randbytes(9)).hexdigest(),
    lambda r: hashlib.sha512(r.randbytes(9)).hexdigest(),
    lambda r: hashlib.sha256(r.randbytes(9)).hexdigest().upper(),
    lambda r: "sha512-" + encoded(r, 64),
    lambda r: str(uuid.UUID(bytes=r.randbytes(16))),
    lambda r: "data:image/png;base64," + encoded(r, 300),
    lambda r: f"https://files.school.edu.gh/a/{chars(r, 40)}?page={chars(r, 40)}",
    lambda r: "ssh-ed25519 AAAA" + encoded(r, 50),
    lambda r: wrapped(r, 76),
    lambda _: encoded_text("Exams of the second term, by course and form"),
    lambda r: f"-----BEGIN CERTIFICATE-----\n{encoded(r, 48)}\n-----END CERTIFICATE-----",
]


@PLAIN
@given(
    st.sampled_from(LOOK_ALIKES), st.sampled_from(sorted(FILES)), st.randoms(use_true_random=True)
)
def test_hashes_ids_and_addresses_are_none(
    tmp_path: Path, alike: Callable[[Random], str], name: str, random: Random
) -> None:
    value = alike(random)
    if name.endswith(".py"):
        value = value.replace("\n", "\\n")
    assert of(tmp_path, name, FILES[name](value)) == []


@pytest.mark.parametrize(
    "line",
    [
        'password="test"',
        'password = "changeme"',
        "PASSWORD=<your password>",
        "password: ${DB_PASSWORD}",
        "password: {{ env_var('HR_PASSWORD_2') }}",
        "password = os.environ['HR_PASSWORD_2']",
        'password_column = "pwd_hash_v2"',
        'token = get_token("Hr2Reports")',
        "user:password@localhost",
        "postgresql://user:password@localhost/hr",
        "postgresql://user:password@db.school.edu.gh/hr",
        'f"postgresql://{user}:{password}@{host}/hr"',
        '"postgresql://%s:%s@%s/hr" % (user, password, host)',
        "postgresql+psycopg2://airflow:airflow@postgres:5432/airflow",
        "spreadsheetId: '1" + "".join(Random(1).choices(ALNUM, k=43)) + "'",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "x" * 36,
        "from airflow.providers.standard.operators.python import BranchPythonOperator",
        "airflow.providers.cncf.kubernetes.operators.pod.KubernetesPodOperatorLongName2",
        "select student_id, programme_code, academic_year_2026, final_result_percentage",
        "Sat_ProdNum_VendNum_UntMsrCd_LDTS",
        "/srv/Marts/HrReports/2026/LeaveBalanceByDepartmentAndGrade",
        "stg_records__results_with_programmes_2026_by_semester_and_grade_3",
        "Begin with -----BEGIN PRIVATE KEY----- and end with -----END PRIVATE KEY-----.",
        string.ascii_letters + string.digits,
    ],
)
def test_placeholders_names_and_paths_are_none(tmp_path: Path, line: str) -> None:
    for name in ("a.py", "a.md", "a.yaml", "a.sql", ".env"):
        assert of(tmp_path, name, line + "\n") == [], name


def test_an_image_of_a_notebook_is_data_and_a_token_beside_it_is_found(tmp_path: Path) -> None:
    random = Random()
    outputs = [{"data": {"image/png": encoded(random, 120)}}]
    cell = {"cell_type": "code", "source": ["plot()\n"], "outputs": outputs}
    assert of(tmp_path, "a.ipynb", json.dumps({"cells": [cell]}, indent=1)) == []
    outputs.append({"text": "ghp_" + chars(random, 36)})
    assert len(of(tmp_path, "a.ipynb", json.dumps({"cells": [cell]}, indent=1))) == 1


def test_the_analysts_template_and_lock_files_have_none() -> None:
    for tree in (ROOT / "airflow/analysts-template", ROOT / "requirements"):
        files = [str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()]
        assert scan(tree, files) == []


HOSTILE = [
    "a" * 300_000,
    "aB3" * 300_000,
    "eyJ" * 300_000,
    "eyJ-" * 300_000,
    "://" * 300_000,
    "://a:b" * 30_000,
    "-----BEGIN " * 30_000,
    "-----BEGIN PRIVATE KEY-----" * 10_000,
    "LS0tLS1CRUdJTi" * 30_000,
    "password=" * 30_000,
    "pass" * 300_000,
    ("aB3" * 25 + "\n") * 30_000,
    "xoxb-1-" * 30_000,
    "T3BlbkFJ " + "sk-" * 300_000,
    "aws" * 300_000,
    "https://" * 30_000,
    "sha256-" * 30_000,
    "(" * 30_000,
    "[" * 300_000,
    '{"a":' * 30_000,
    "K = " + "+".join(['"a"'] * 30_000),
    "-" * 30_000 + "1",
    "\x00" * 300_000,
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("name", ["a.py", "a.ipynb"])
def test_hostile_text_ends_soon(tmp_path: Path, name: str, content: str) -> None:
    begun = time.monotonic()
    of(tmp_path, name, content)
    assert time.monotonic() - begun < 20


@PLAIN
@given(st.sampled_from(["a.py", "a.ipynb", "a.txt"]), st.binary() | st.text().map(str.encode))
def test_no_bytes_raise(tmp_path: Path, name: str, content: bytes) -> None:
    of(tmp_path, name, content)


def test_what_is_no_file_or_not_there_has_none(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert scan(tmp_path, ["none", ".", "loop", "a\0b"]) == []
