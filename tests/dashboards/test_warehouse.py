from __future__ import annotations

import pytest
from sqlalchemy.engine import make_url

from dashboards.warehouse import bare, with_password

KNOWN = "postgresql+psycopg2://bi:hush@db.example.org:5432/warehouse?sslmode=verify-full"


def test_an_address_without_its_password_has_all_the_rest() -> None:
    assert str(bare(KNOWN)) == KNOWN.replace(":hush", "")


def test_the_password_joins_at_the_same_database() -> None:
    assert with_password(bare(KNOWN), KNOWN) == make_url(KNOWN)


@pytest.mark.parametrize(
    ("part", "other"),
    [("db.example.org", "evil.example.org"), ("5432", "5433"), ("/warehouse", "/hr"), ("bi", "x")],
)
def test_another_server_database_or_login_is_not_told(part: str, other: str) -> None:
    uri = make_url(str(bare(KNOWN)).replace(part, other, 1))
    assert with_password(uri, KNOWN).password is None


def test_without_a_known_one_nothing_joins() -> None:
    assert with_password(bare(KNOWN), "").password is None
