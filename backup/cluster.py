"""The state of Nomad or of Vault as their own snapshot: ``python -m backup.cluster nomad``.

A program of its own, so that it is a child of the pipeline like any other: the snapshot goes to
standard output, and the exit code is 0 only if all of it was there. Both are tar archives that
end with the SHA-256 of what they hold, which is checked on the way; a server that fails half-way
may close its answer as if all were well.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tarfile
import zlib
from typing import IO, TYPE_CHECKING

import requests
from urllib3.exceptions import HTTPError

from backup.settings import NOMAD_TOKEN, VAULT_TOKEN, Settings
from frame import certificate
from frame.failure import Failure

if TYPE_CHECKING:
    from typing import Protocol

    class Readable(Protocol):
        """What tarfile reads a stream from."""

        def read(self, size: int, /) -> bytes:
            """Return at most ``size`` bytes, none at the end."""


SUMS = "SHA256SUMS"
BLOCK = 1 << 16
SILENCE_SECONDS = 120  # that a server may think before it goes on

ENDPOINTS = {
    "nomad": ("/v1/operator/snapshot", "X-Nomad-Token", NOMAD_TOKEN),
    "vault": ("/v1/sys/storage/raft/snapshot", "X-Vault-Token", VAULT_TOKEN),
}


class _Copied:
    """A stream that is written to another one while it is read."""

    def __init__(self, source: Readable, sink: IO[bytes]) -> None:
        self._source = source
        self._sink = sink

    def read(self, size: int) -> bytes:
        block = self._source.read(size)
        self._sink.write(block)
        return block


def check_snapshot(what: str, stream: Readable) -> None:
    """Raise :class:`Failure` unless ``stream`` is a whole snapshot, read to its end."""
    found: dict[str, str] = {}
    wanted: dict[str, str] = {}
    try:
        with tarfile.open(fileobj=stream, mode="r|gz") as archive:  # type: ignore[call-overload]
            for member in archive:
                content = archive.extractfile(member)
                if content is None:
                    continue
                if member.name == SUMS:
                    wanted = _sums(content.read())
                    continue
                digest = hashlib.sha256()
                while block := content.read(BLOCK):
                    digest.update(block)
                found[member.name] = digest.hexdigest()
        while stream.read(BLOCK):  # tar ends before its padding does
            pass
    except (tarfile.TarError, EOFError, zlib.error, OSError, HTTPError) as error:
        raise Failure(
            f"snapshot of {what} is damaged: {error}", hint="Look at the server's log, try again."
        ) from error
    wrong = [name for name, digest in wanted.items() if found.get(name) != digest]
    if not wanted or wrong:
        raise Failure(
            f"snapshot of {what} is not whole: {', '.join(wrong) or SUMS} is missing or different",
            hint="Look at the server's log, try again.",
        )


def _sums(data: bytes) -> dict[str, str]:
    lines = [line.split() for line in data.decode(errors="replace").splitlines()]
    return {line[1]: line[0] for line in lines if len(line) == 2}  # noqa: PLR2004


def stream_snapshot(settings: Settings, what: str, sink: IO[bytes]) -> None:
    """Write the snapshot of ``what`` to ``sink``. Raises Failure unless it is whole."""
    path, header, secret = ENDPOINTS[what]
    address = settings.address(what)
    try:
        with requests.get(
            f"{address}{path}",
            headers={header: settings.secret(secret), "Accept-Encoding": "identity"},
            stream=True,
            timeout=(15, SILENCE_SECONDS),
        ) as answer:
            if not answer.ok:
                raise Failure(
                    f"{what} at {address} gives no snapshot: {answer.status_code} {answer.reason}",
                    hint="Look at the rights of the job's token and at the server's log.",
                )
            check_snapshot(what, _Copied(answer.raw, sink))
    except requests.RequestException as error:
        raise certificate.failure(f"{what} at {address}", error) or Failure(
            f"{what} at {address} does not answer: {type(error).__name__}",
            hint="Look whether it is up, and reachable from here.",
        ) from error
    sink.flush()


def main() -> None:
    """Write the snapshot that the first argument names to standard output."""
    try:
        stream_snapshot(Settings.from_environment(os.environ), sys.argv[1], sys.stdout.buffer)
    except Failure as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
