from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from backup.settings import B2Key, Settings, read_json
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


@pytest.mark.parametrize(
    ("text", "of", "fault"),
    [
        ('{"key_id": "a", "key": 5, "x": "K00hush"}', B2Key, "key: Input should be a valid string"),
        ('{"key": "K00hush"}', B2Key, "key_id: Field required"),
        ('{"key_id": "", "key": "K00hush"}', B2Key, "key_id: String should have at least 1 char"),
        ('"K00hush"', B2Key, "Input should be an object"),
        ('{"key_id": hush', B2Key, "Invalid JSON"),
        ("", B2Key, "Invalid JSON"),
        ('{"hush": 5}', dict[str, SecretStr], "Input should be a valid string"),
        ('{"postgresql://u:hush@h/d": {"hush": 1}}', dict[str, str], "Input should be a valid str"),
        ('["hush"]', dict[str, str], "Input should be an object"),
    ],
)
def test_a_json_secret_of_another_form_is_refused_and_not_shown(
    tmp_path: Path, text: str, of: type, fault: str
) -> None:
    secret = tmp_path / "b2.json"
    secret.write_text(text)
    with pytest.raises(WrongUse) as caught:
        read_json(secret, of, '{"key_id": "..."}')
    form = 'is not JSON of the form {"key_id": "..."}: '
    assert caught.value.message.startswith(f"secret file {secret} {form}{fault}")
    assert "hush" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("content", [None, b"hush\xff"])
def test_a_json_secret_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content:
        (tmp_path / "b2.json").write_bytes(content)
    with pytest.raises(WrongUse, match=f"{tmp_path}/b2.json") as caught:
        read_json(tmp_path / "b2.json", B2Key, "{}")
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_a_b2_key_does_not_show_its_secret(tmp_path: Path) -> None:
    (tmp_path / "b2.json").write_text('{"key_id": "004a", "key": "K00hush"}')
    key = Settings.from_environment(GIVEN | {"BACKUP_SECRETS_DIR": str(tmp_path)}).b2_key()
    assert "hush" not in repr(key)
    assert key.key.get_secret_value() == "K00hush"
