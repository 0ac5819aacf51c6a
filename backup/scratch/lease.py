"""What passes between a drill and the scratch server's supervisor: one line of JSON each way."""

from __future__ import annotations

import socket
import struct
import time
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

CONTROL = "control"  # the supervisor's socket, in the directory of the server's own
LONGEST_LINE = 64 << 10  # bytes; a request with a hundred settings takes 5 KiB
Shape = TypeVar("Shape", bound=BaseModel)
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid


class Needs(BaseModel):
    """The cluster that a drill asks for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    major: int = Field(ge=1, description="the server's version, or the next newer one at hand")
    superuser: str = Field(
        default="postgres", min_length=1, description="the one that initdb makes"
    )
    encoding: str = Field(default="UTF8", min_length=1, description="of its template databases")
    locale: str = Field(default="C.UTF-8", min_length=1, description="of its template databases")
    extensions: tuple[str, ...] = Field(
        default=(), description="that come; some of them a server must load when it starts"
    )
    database: str = Field(default="postgres", description="that they come to")
    settings: dict[str, str] = Field(
        default={}, description="as postgresql.conf has them, such as max_locks_per_transaction"
    )


class Ready(BaseModel):
    """The cluster is up; its socket lies beside the control socket."""

    model_config = ConfigDict(frozen=True)

    major: int
    password: str = Field(repr=False, description="the superuser's, new for each lease")


class Refused(BaseModel):
    """There is no cluster, or no longer one."""

    model_config = ConfigDict(frozen=True)

    message: str
    hint: str


class Answer(BaseModel):
    """What the supervisor writes: the one or the other."""

    model_config = ConfigDict(frozen=True)

    ready: Ready | None = None
    refused: Refused | None = None


class Garbled(Exception):
    """What came is no line of this protocol, or did not come whole in its time."""


def write_line(connection: socket.socket, value: BaseModel, seconds: float) -> None:
    """Send ``value`` within ``seconds``. Raises OSError if nobody reads it."""
    connection.settimeout(seconds)
    connection.sendall(value.model_dump_json(exclude_none=True).encode() + b"\n")


def read_line(connection: socket.socket, shape: type[Shape], seconds: float) -> Shape:
    """Return the next line as a ``shape``.

    Raises :class:`Garbled` if it is none, is not whole after ``seconds``, or the connection ended.
    """
    until = time.monotonic() + seconds
    line = b""
    while not line.endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0:
            raise Garbled(f"no answer in {seconds:g} seconds")
        connection.settimeout(left)
        try:
            block = connection.recv(LONGEST_LINE)
        except TimeoutError:
            continue
        except OSError as error:
            raise Garbled(error.strerror or "the connection broke") from None
        line += block
        if not block or len(line) > LONGEST_LINE:
            raise Garbled("the connection ended" if not block else "the line is too long")
    try:
        return shape.model_validate_json(line)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, fault["loc"])) or "line" for fault in error.errors())
        raise Garbled(f"not understood: {where}") from None


def peer_uid(connection: socket.socket) -> int:
    """Return the uid of whoever is at the other end, as the kernel knows it."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    return int(_PEER.unpack(credentials)[1])
