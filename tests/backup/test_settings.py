from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backup.settings import Settings
from frame.failure import WrongUse

if TYPE_CHECKING:
    from pathlib import Path

GIVEN = {
    "BACKUP_SECRETS_DIR": "/secrets",
    "BACKUP_B2_REALM": "production",
    "BACKUP_BUCKET": "school-backups",
    "BACKUP_PREFIX": "production",
}


def test_the_environment_becomes_settings() -> None:
    settings = Settings.from_environment(GIVEN | {"BACKUP_PART_MINIMUM": "8MiB", "HOME": "/root"})
    assert settings.bucket == "school-backups"
    assert settings.part_minimum == 8 << 20
    assert settings.registry.name == "databases.toml"


@pytest.mark.parametrize("name", GIVEN)
def test_a_missing_setting_is_named(name: str) -> None:
    with pytest.raises(WrongUse, match=f"{name} is not set") as caught:
        Settings.from_environment({key: value for key, value in GIVEN.items() if key != name})
    assert caught.value.exit_code == 2


def test_everything_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(WrongUse) as caught:
        Settings.from_environment({"BACKUP_B2_REALM": "somewhere"})
    assert "BACKUP_B2_REALM is wrong" in caught.value.message
    assert caught.value.message.count("is not set") == 3


def test_a_secret_loses_the_newline_of_its_template(tmp_path: Path) -> None:
    (tmp_path / "database_uri").write_text("postgresql://u:p@h/d\n")
    settings = Settings.from_environment(GIVEN | {"BACKUP_SECRETS_DIR": str(tmp_path)})
    assert settings.secret("database_uri") == "postgresql://u:p@h/d"


@pytest.mark.parametrize("content", [None, b"\n", b"hush\xff"])
def test_a_missing_empty_or_binary_secret_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "database_uri").write_bytes(content)
    settings = Settings.from_environment(GIVEN | {"BACKUP_SECRETS_DIR": str(tmp_path)})
    with pytest.raises(WrongUse, match=f"{tmp_path}/database_uri") as caught:
        settings.secret("database_uri")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ['{"key_id": "a", "key": 5, "x": "K00hush"}', '"K00hush"', "{"])
def test_a_wrong_b2_key_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "b2.json").write_text(text)
    settings = Settings.from_environment(GIVEN | {"BACKUP_SECRETS_DIR": str(tmp_path)})
    with pytest.raises(WrongUse, match=r"b2\.json is no B2 key") as caught:
        settings.b2_key()
    assert "hush" not in caught.value.message


def test_a_b2_key_does_not_show_its_secret(tmp_path: Path) -> None:
    (tmp_path / "b2.json").write_text('{"key_id": "004a", "key": "K00hush"}')
    key = Settings.from_environment(GIVEN | {"BACKUP_SECRETS_DIR": str(tmp_path)}).b2_key()
    assert "hush" not in repr(key)
    assert key.key.get_secret_value() == "K00hush"
