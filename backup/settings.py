"""What the job gives the program: settings by environment, secrets as files in a directory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from backup.registry import Fingerprint, load_registry
from frame import settings
from frame.failure import WrongUse

REGISTRY = Path(__file__).with_name("databases.toml")
DATABASE_URI = "database_uri"
B2_KEY = "b2.json"
B2_RESULTS_KEY = "b2_results.json"
RECIPIENTS = "recipients.asc"
MANIFEST_RECIPIENT = "manifest_recipient.asc"
MANIFEST_KEY = "manifest_key.asc"
DRILL_KEY = "drill_key.asc"
SIGNING_KEY = "signing_key.asc"
SIGNERS = "signers.json"
SERVERS = "servers.json"
ALERTS = "alerts.json"
NOMAD_TOKEN = "nomad_token"  # noqa: S105 - where Nomad itself puts the task's identity
VAULT_TOKEN = "vault_token"  # noqa: S105 - and its token of Vault
RENDERED = "Let the job's Vault template render it, readable by the task's user."

T = TypeVar("T")


def read_text(path: Path, hint: str) -> str:
    """Return the text of a file that somebody else put there. Raises WrongUse with ``hint``."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise WrongUse(f"file {path} cannot be read: {error.strerror}", hint) from error
    except UnicodeDecodeError:
        raise WrongUse(f"file {path} is no text in UTF-8", hint) from None


def read_json(path: Path, of: type[T], form: str, hint: str = RENDERED) -> T:
    """Return what the JSON secret ``path`` holds, as ``of``, a type that pydantic knows.

    Raises :class:`WrongUse` with ``hint`` and ``form``, an example. It shows nothing of the file:
    of the names in it only those that ``of`` has as fields.
    """
    text = read_text(path, hint)
    try:
        return TypeAdapter(of).validate_json(text)
    except ValidationError as error:
        known = getattr(of, "model_fields", {})
        faults = "; ".join(
            "".join(f"{place}: " for place in fault["loc"][:1] if place in known) + fault["msg"]
            for fault in error.errors(include_input=False, include_context=False, include_url=False)
        )
    raise WrongUse(f"secret file {path} is not JSON of the form {form}: {faults}", hint)


class B2Key(BaseModel):
    """A B2 application key, as the file ``b2.json`` holds it."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    key_id: str = Field(min_length=1)
    key: SecretStr = Field(min_length=1)


class Settings(settings.Settings):
    """The plain settings of every verb."""

    PREFIX = "BACKUP_"

    secrets_dir: Path = Field(description="directory of the secret files")
    b2_realm: str = Field(
        pattern=r"^(production|https?://\S+)$",
        description='"production", or the URL of a B2 endpoint',
    )
    bucket: str = Field(min_length=6, description="name of the bucket")
    prefix: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = Field(
        description="environment, which is the first folder in the bucket, such as local"
    )
    scratch: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()),
        description="directory for restores and drills (default: the system's temporary one)",
    )
    pg_root: Path = Field(
        default=Path("/usr/lib/postgresql"),
        description="directory of PostgreSQL's programs, of each major version in MAJOR/bin",
    )
    scratch_server: Path | None = Field(
        default=None,
        description="directory of a running `backup scratch-server`, which drills restore into",
    )
    registry: Path = Field(
        default_factory=lambda: REGISTRY,
        description="list of what is backed up (default: databases.toml in the package)",
    )
    part_minimum: ByteSize = Field(
        default=ByteSize(16 << 20), ge=5_000_000, description="smallest part of an upload in bytes"
    )
    bandwidth: ByteSize | None = Field(
        default=None, ge=10_000, description="most bytes a second of an upload, such as 20MB"
    )
    nomad_address: str | None = Field(
        default=None,
        pattern=r"^https?://\S+$",
        description="URL of Nomad, for its snapshot and for the brief",
    )
    vault_address: str | None = Field(
        default=None, pattern=r"^https?://\S+$", description="URL of Vault, for its snapshot"
    )
    brief: str | None = Field(
        default=None,
        pattern=r"^/v1/var/\S+$",
        description="path in Nomad's API of the variable that coverage leaves its brief in",
    )
    recovery_key: Fingerprint | None = Field(
        default=None,
        description="fingerprint of the recovery key, where databases.toml does not pin one",
    )
    digest_jobs: int = Field(
        default=1, ge=1, le=64, description="parallel sessions to the source that digest tables"
    )

    def address(self, what: str) -> str:
        """Return where Nomad or Vault is, without a slash at the end."""
        found = {"nomad": self.nomad_address, "vault": self.vault_address}[what]
        if found is None:
            raise WrongUse(
                f"settings are incomplete: BACKUP_{what.upper()}_ADDRESS is not set",
                hint=f"Set it to the URL of {what}, as the job backup-{what} does.",
            )
        return found.rstrip("/")

    def secret(self, name: str) -> str:
        """Return the text of one secret file without the newline that a template leaves."""
        path = self.secret_path(name)
        text = read_text(path, RENDERED)
        if not text:
            raise WrongUse(
                f"secret file {path} is empty",
                hint="Look whether its path in Vault holds a value for this environment.",
            )
        return text

    def secret_path(self, name: str) -> Path:
        """Return where the secret file ``name`` is expected."""
        return self.secrets_dir / name

    def pinned_recovery(self) -> str | None:
        """Return the recovery key's fingerprint, as the registry pins it or else the environment.

        Raises :class:`WrongUse` if they name different keys.
        """
        registered, given = load_registry(self.registry).recovery_key, self.recovery_key
        if registered and given and registered != given:
            raise WrongUse(
                f"BACKUP_RECOVERY_KEY is {given}, recovery_key in {self.registry} {registered}",
                hint="Pin one recovery key, in one place.",
            )
        return registered or given

    def b2_key(self, name: str = B2_KEY) -> B2Key:
        """Return the B2 application key that the secret file ``name`` holds."""
        return read_json(self.secret_path(name), B2Key, '{"key_id": "...", "key": "..."}')
