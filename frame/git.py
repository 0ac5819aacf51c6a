"""The one place that starts git: a hardened environment, time bounds and size bounds.

Nothing that a repository, a user or the machine configures takes part: no hooks, no filters, no
replace refs, no credential helpers, and no transport but the one a caller names. Only a reader may
be given a file that logs it in.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from frame.failure import Failure
from frame.trust import BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MEBIBYTE = 1024 * 1024
NOTHING = "0" * 40
"""In update-ref: the ref does not exist."""
_FETCHED = "refs/heads/fetched"

_ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "/bin/false",
    "SSH_ASKPASS": "/bin/false",
    "GIT_PROTOCOL_FROM_USER": "0",
}
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.fsmonitor": "false",
    "core.fsync": "all",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "credential.helper": "",
    "fetch.fsckObjects": "true",
    "transfer.fsckObjects": "true",
    "fetch.recurseSubmodules": "false",
    # One pack a fetch, so that the bound on a file's size bounds the transfer.
    "fetch.unpackLimit": "1",
    "submodule.recurse": "false",
    "gc.auto": "0",
    # A login is for the address that was given, wherever that may lead.
    "http.followRedirects": "false",
    "protocol.allow": "never",
    "protocol.version": "2",
}


class GitError(Failure):
    """A git command failed; ``said`` is the end of what it wrote to stderr."""

    def __init__(self, message: str, hint: str, said: str = "") -> None:
        super().__init__(message, hint)
        self.said = said


def environment() -> dict[str, str]:
    """Return the environment of every git process: nothing of the caller's is in it."""
    return dict(_ENVIRONMENT)


class Git:
    """Git on one bare repository, or on none (``ls-remote``, ``init``)."""

    def __init__(
        self,
        repository: Path | None = None,
        *,
        protocol: str = "",
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.repository = repository
        self._environ = {**environment(), **(environ or {})}
        config = dict(_CONFIG)
        if protocol:
            config[f"protocol.{protocol}.allow"] = "always"
        self._prefix = ["git", "--no-replace-objects"]
        if repository is not None:
            self._prefix.append(f"--git-dir={repository}")
        for key, value in config.items():
            self._prefix += ["-c", f"{key}={value}"]

    def run(
        self,
        *arguments: str,
        stdin: bytes = b"",
        seconds: float = 60,
        most: int = 64 * MEBIBYTE,
        environ: Mapping[str, str] | None = None,
    ) -> bytes:
        """Run one git command and return its stdout.

        ``most`` bounds every file git writes and its output, in bytes. Raises GitError when it
        fails, when it takes longer than ``seconds``, or when it writes more.
        """
        words = (word for word in arguments if not word.startswith("-") and "=" not in word)
        verb = next(words, arguments[0])
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(
                [*_bounded(most), *self._prefix, *arguments],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                env={**self._environ, **(environ or {})},
                start_new_session=True,
                cwd="/",
            )
            try:
                process.communicate(stdin, timeout=seconds)
            except subprocess.TimeoutExpired as error:
                raise GitError(
                    f"git {verb} took longer than {seconds:.0f} s",
                    "See whether the other end and the disk are slow; the next run tries again.",
                ) from error
            finally:
                _end(process)
            err.seek(max(0, err.seek(0, os.SEEK_END) - 4000))
            said = err.read().decode(errors="replace").strip()
            if process.returncode == -signal.SIGXFSZ:
                said = f"{said} (wrote more than {most} bytes)".strip()
            if process.returncode:
                raise GitError(
                    f"git {verb} failed with {process.returncode}: {said or 'it said nothing'}",
                    "Read git's own words above.",
                    said,
                )
            out.seek(0)
            return out.read()

    def text(self, *arguments: str, seconds: float = 60) -> str:
        """Run one git command and return its stdout as one stripped string."""
        return self.run(*arguments, seconds=seconds).decode(errors="replace").strip()

    def ref(self, name: str) -> str | None:
        """Return the object id that the full ref ``name`` points to; None if there is no such."""
        found = self.text("for-each-ref", "--format=%(objectname) %(refname)", name)
        for line in found.splitlines():
            object_id, _, full = line.partition(" ")
            if full == name:
                return object_id
        return None

    def swap(self, name: str, new: str, old: str) -> None:
        """Move the ref ``name`` from ``old`` to ``new``; GitError if it is not at ``old``."""
        self.run("update-ref", name, new, old)


def init_bare(path: Path) -> Git:
    """Create an empty bare repository at ``path`` whose HEAD is ``live``."""
    Git().run("init", "--quiet", "--bare", "--template=", "--initial-branch=live", str(path))
    return Git(path)


def reader(
    url: str, repository: Path | None = None, *, config: Path | None = None, silence: int = 60
) -> Git:
    """Return the git that reads from ``url``, trusting the authorities of :mod:`frame.trust`.

    ``config`` is a file of git's own form; what it says of the URL, such as a header that logs in,
    is in no argument and no variable. A server on https that sends nothing for ``silence`` seconds
    is given up.
    """
    environ = {"GIT_HTTP_LOW_SPEED_LIMIT": "1", "GIT_HTTP_LOW_SPEED_TIME": str(silence)}
    if BUNDLE in os.environ:
        environ["GIT_SSL_CAINFO"] = os.environ[BUNDLE]
    if config is not None:
        environ["GIT_CONFIG_GLOBAL"] = str(config)
    return Git(repository, protocol=urlsplit(url).scheme, environ=environ)


@contextmanager
def fetched(
    url: str, wanted: str, *, seconds: float, most: int, config: Path | None = None
) -> Iterator[tuple[Git, str]]:
    """Fetch one commit, without its history, into a repository of its own for a while.

    ``wanted`` is a full ref or an object id; ``seconds`` and ``most``, in bytes, bound what comes;
    ``config`` is that of :func:`reader`. Yield the repository and the commit's id. Raises GitError.
    """
    with tempfile.TemporaryDirectory() as folder:
        init_bare(Path(folder))
        git = reader(url, Path(folder), config=config)
        words = ("fetch", "--quiet", "--depth=1", "--no-tags", "--", url, f"{wanted}:{_FETCHED}")
        git.run(*words, seconds=seconds, most=most)
        yield git, git.text("rev-parse", "--verify", f"{_FETCHED}^{{commit}}")


def daemon_program() -> str:
    """Return the path of git-daemon itself: ``git daemon`` would leave a git process between."""
    return str(Path(Git().text("--exec-path")) / "git-daemon")


def _bounded(most: int) -> list[str]:
    """Return what bounds each file of a program: no code of ours runs between fork and exec.

    Only Linux has it; elsewhere, at a desk, what is written is a folder of one's own.
    """
    return ["prlimit", f"--fsize={most}", "--"] if sys.platform == "linux" else []


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill whatever is left of the process's session: git, ssh and index-pack."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
