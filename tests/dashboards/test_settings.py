from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dashboards.settings import Settings
from frame.failure import WrongUse


def settings(tmp_path: Path, **files: str) -> Settings:
    for name, text in {"metadata_uri": "postgresql://a:b@c/d\n", **files}.items():
        (tmp_path / name).write_text(text)
    given: dict[str, Any] = {
        f"DASHBOARDS_{name.upper()}_FILE": str(tmp_path / name)
        for name in {"metadata_uri": "", **files}
    }
    return Settings.from_environment(given)


def test_a_uri_names_the_driver(tmp_path: Path) -> None:
    wanted = "postgresql+psycopg2://a:b@c/d"
    assert settings(tmp_path).read_metadata_uri() == wanted
    assert settings(tmp_path, metadata_uri=wanted).read_metadata_uri() == wanted


def test_without_oidc_people_have_passwords(tmp_path: Path) -> None:
    assert settings(tmp_path).read_oidc() is None
    nobody = '{"issuer": "", "client_id": "", "client_secret": ""}'
    assert settings(tmp_path, oidc=nobody).read_oidc() is None


def test_an_issuer_has_no_slash_at_its_end(tmp_path: Path) -> None:
    text = '{"issuer": "https://id.example.org/", "client_id": "i", "client_secret": "s"}'
    oidc = settings(tmp_path, oidc=text).read_oidc()
    assert oidc is not None
    assert oidc["issuer"] == "https://id.example.org"


@pytest.mark.parametrize("text", ["", "hush", '["hush"]', '{"username": "hush"}'])
def test_a_secret_that_is_wrong_is_not_repeated(tmp_path: Path, text: str) -> None:
    with pytest.raises(WrongUse) as raised:
        settings(tmp_path, admin=text).read_admin()
    assert "DASHBOARDS_ADMIN_FILE" in raised.value.message
    assert "hush" not in str(raised.value)


def test_a_file_that_is_not_there_is_named_by_its_variable(tmp_path: Path) -> None:
    known = settings(tmp_path)
    (tmp_path / "metadata_uri").unlink()
    with pytest.raises(WrongUse, match="DASHBOARDS_METADATA_URI_FILE cannot be read"):
        known.read_metadata_uri()
    with pytest.raises(WrongUse, match="DASHBOARDS_SECRET_KEY_FILE is not set"):
        known.read_secret_key()
