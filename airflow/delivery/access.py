"""How git gets in at the analysts' remote: over ssh with a key, or over https with a login.

No part of either is in an argument, a variable or a URL.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from frame import certificate
from frame.failure import WrongUse
from frame.git import Git, reader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from delivery.settings import FetchSettings

_AWAY = "See that the remote runs and is reached from this node; the next run tries again."


class Refusal(NamedTuple):
    """What git says where another try would end the same, and the way out."""

    said: str
    hint: str = _AWAY


_BY_SSH = (
    Refusal(
        "Host key verification failed",
        "Put the remote's real host key into DELIVERY_KNOWN_HOSTS_FILE, after checking it.",
    ),
    Refusal(
        "Permission denied",
        "Add the deploy key's public half to the remote, with the right to read only.",
    ),
    Refusal("No such file|does not appear to be a git|No user exists"),
)
_BY_HTTPS = (
    # What is wrong with it, the library that git was built with may not say.
    Refusal("certificate"),
    Refusal(
        r"Authentication failed|could not read (Username|Password)|returned error: 40[13]",
        "Let delivery/remote in Vault hold a username and a token that may read the repository and"
        " has not expired.",
    ),
    Refusal(
        r"returned error: 30\d",
        "Name the address that it leads to as the remote: a redirect is not followed.",
    ),
    Refusal(
        "repository '.*' not found|not valid: is this a git repository",
        "Correct the remote's path, or give the token the right to read it: some servers say"
        " that what it may not read is not there.",
    ),
)


@dataclass(frozen=True)
class Access:
    """``git`` starts a git that may speak to the remote, on a repository or on none."""

    git: Callable[[Path | None], Git]
    _refusals: tuple[Refusal, ...]

    def refused(self, said: str) -> bool:
        """Whether git's words mean that another try would end the same."""
        return any(re.search(each.said, said) for each in self._refusals)

    def hint(self, said: str) -> str:
        """Return how to go on after these words of git's."""
        return next((each.hint for each in self._refusals if re.search(each.said, said)), _AWAY)


@contextmanager
def opened(settings: FetchSettings) -> Iterator[Access]:
    """Yield the access to the remote of ``settings``. Raises WrongUse without what it needs."""
    if urlsplit(settings.remote).scheme == "https":
        yield Access(_https(settings), _BY_HTTPS)
        return
    with _ssh(settings) as command:
        git = partial(Git, protocol="ssh", environ={"GIT_SSH_COMMAND": command})
        yield Access(git, _BY_SSH)


def distrusted(remote: str) -> tuple[str, str] | None:
    """Return what is wrong with the certificate of a ``remote`` on https, and the way out."""
    parts = urlsplit(remote)
    if parts.scheme != "https" or not parts.hostname:
        return None
    found = certificate.presented(remote, parts.hostname, parts.port or 443)
    return (found.message, found.hint) if found else None


def _https(settings: FetchSettings) -> Callable[[Path | None], Git]:
    config = settings.git_config
    if not os.access(config, os.R_OK):
        raise WrongUse(
            f"git's configuration with the login cannot be read: {str(config)!r}",
            "See that the job's template renders it and that the task's user may read it.",
        )
    return partial(reader, settings.remote, config=config, silence=max(1, settings.seconds // 2))


@contextmanager
def _ssh(settings: FetchSettings) -> Iterator[str]:
    """Yield GIT_SSH_COMMAND; the key is copied, as ssh wants mode 600 and a final newline."""
    try:
        key = settings.key_file.read_text().replace("\r\n", "\n").strip() + "\n"
        hosts = settings.known_hosts_file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise WrongUse(
            f"deploy key or known hosts cannot be read: {error}",
            "See that the job's templates render both and that the task's user may read them.",
        ) from error
    # Nomad's secrets directory is memory: the copy should not leave it for a disk.
    beside = settings.key_file.parent
    place = beside if os.access(beside, os.W_OK | os.X_OK) else None
    with tempfile.TemporaryDirectory(prefix="dag-sync-", dir=place) as private:
        key_file, hosts_file = Path(private, "key"), Path(private, "known_hosts")
        for path, content in ((key_file, key), (hosts_file, hosts)):
            path.touch(mode=0o600)
            path.write_text(content)
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(hosts_file),
            "GlobalKnownHostsFile": "/dev/null",
            "UpdateHostKeys": "no",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "PreferredAuthentications": "publickey",
            "ForwardAgent": "no",
            "ClearAllForwardings": "yes",
            "PermitLocalCommand": "no",
            "ConnectTimeout": "10",
            # A remote that goes silent is given up after a minute, not after TCP's two hours.
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "4",
            "LogLevel": "ERROR",
        }
        given = [word for key_, value in options.items() for word in ("-o", f"{key_}={value}")]
        yield shlex.join(["ssh", "-F", "/dev/null", "-i", str(key_file), *given])
