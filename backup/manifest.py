"""The commit marker of a backup: without its manifest an object in the bucket is no backup."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from backup.registry import Kind  # noqa: TC001 - pydantic needs it at run time
from frame.failure import Failure


class TableContents(BaseModel):
    """One user table in the dump's own snapshot: its rows, and their digest if it was taken."""

    model_config = ConfigDict(frozen=True)

    schema_name: str
    table: str
    rows: int | None = Field(ge=0, description="None: could not be counted")
    digest: str | None = Field(
        default=None, description="of backup.source.digests; None: counted only"
    )
    unproved: str | None = Field(
        default=None,
        description="why rows or digest could not be taken; None: they were, or not asked",
    )


class SchemaObject(BaseModel):
    """One object of the schema as pg_dump writes it into the dump."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(description="as pg_dump calls it, such as TABLE, FK CONSTRAINT or ACL")
    schema_name: str = Field(description="empty for what is in none")
    name: str
    owner: str = Field(default="", description="empty for what has none")
    digest: str = Field(description="SHA-256 of its normalised text, in hexadecimal")


class Gap(BaseModel):
    """Something that the database has and a dump by this role cannot hold."""

    model_config = ConfigDict(frozen=True)

    kind: str = Field(description="such as subscription, user mapping, tablespace, extension table")
    name: str
    why: str = Field(description="one sentence: what is lost, and what would keep it")


class Sequence(BaseModel):
    """One sequence: its last value before and after the dump, null if it was not asked yet.

    Both are the dump's own value where that is not between them.
    """

    model_config = ConfigDict(frozen=True)

    schema_name: str
    name: str
    before: int | None
    after: int | None

    def may_stand_at(self, value: int | None) -> bool:
        """Tell whether ``value`` is where a restored one may stand."""
        if self.before is None or self.after is None:
            return value is None or self.after is not None
        least, most = sorted((self.before, self.after))
        return value is not None and least <= value <= most


class StoredDump(BaseModel):
    """The encrypted dump in the bucket. Large files have no SHA-1 in B2, so the SHA-256 is ours."""

    model_config = ConfigDict(frozen=True)

    name: str
    file_id: str
    size: int = Field(gt=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    sha1: str | None = Field(default=None, description="B2's own; None for a large file")


class Source(BaseModel):
    """What the database was like when it was dumped."""

    model_config = ConfigDict(frozen=True)

    system_identifier: int | None = Field(default=None, description="of the server, for life")
    server_version: int = Field(description="server_version_num, such as 150018")
    encoding: str
    collate: str
    ctype: str
    provider: str = Field(default="c", description="of the locale: c is libc, i ICU, b built-in")
    locale: str | None = Field(default=None, description="the name that this provider takes")
    size: int = Field(ge=0, description="bytes on the server, indexes included")
    roles: tuple[str, ...] = Field(description="owners, and roles named in grants and policies")
    superuser: str = Field(default="postgres", description="the server's first one")
    icu_rules: str | None = Field(default=None, description="of the database's own collation")
    tablespace: str = Field(default="pg_default", description="that the database is in")
    tablespaces: tuple[str, ...] = Field(default=(), description="others that its relations are in")
    max_locks: int | None = Field(
        default=None, description="the server's max_locks_per_transaction; None: an old manifest"
    )


class Manifest(BaseModel):
    """All that is known about one backup. A later field gets a default, a new meaning a version."""

    model_config = ConfigDict(frozen=True)

    version: Literal[1] = 1
    kind: Kind = "database"
    id: str
    database: str = Field(description="its name in the registry, also of what is no database")
    dump: StoredDump
    started: AwareDatetime = Field(description="UTC, when the snapshot was taken")
    finished: AwareDatetime
    source: Source | None = Field(default=None, description="None: not from PostgreSQL")
    pg_dump_version: str = ""
    tables: tuple[TableContents, ...] = ()
    sequences: tuple[Sequence, ...] = ()
    extensions: dict[str, str] = Field(default_factory=dict, description="name and version")
    unvalidated: tuple[str, ...] = Field(default=(), description="constraints that are NOT VALID")
    plain_size: int | None = Field(default=None, description="bytes of the dump before zstd")
    objects: tuple[SchemaObject, ...] = Field(default=(), description="empty in old manifests")
    gaps: tuple[Gap, ...] = ()
    warnings: tuple[str, ...] = Field(default=(), description="lines that the dump's children said")
    recipients: tuple[str, ...] = Field(description="fingerprints of the keys it is encrypted to")
    signer: str = Field(default="", description="fingerprint of the key that signs this")
    program_version: str

    @property
    def server(self) -> Source:
        """What the manifest says of the server. Raises Failure if it says nothing."""
        if self.source is None:
            raise Failure(
                f"manifest of {self.id} does not tell of its server",
                hint="It was changed or is of another program; use another backup.",
            )
        return self.source

    @property
    def plain_bytes(self) -> int:
        """How long the plain dump is, or a guess where :attr:`plain_size` does not say it."""
        if self.plain_size is not None:
            return self.plain_size
        return self.source.size if self.source else self.dump.size

    def to_json(self) -> bytes:
        """Return the manifest as it is stored."""
        return self.model_dump_json(indent=2).encode()


def parse_manifest(name: str, data: bytes) -> Manifest:
    """Return the manifest in ``data``, read from the object ``name``."""
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise Failure(
            f"manifest {name} cannot be used ({faults})",
            hint="It is damaged or of a later version of this program; try another backup.",
        ) from error
