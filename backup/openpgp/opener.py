"""Opens what jobs signed and encrypted: whose it is first, and what it says then."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from backup.openpgp.crypt import private_key
from backup.openpgp.signature import NotTrusted, Signers
from backup.pipeline import ChildFailed
from backup.settings import DRILL_KEY, MANIFEST_KEY, Settings
from frame.failure import Failure, WrongUse
from frame.log import get_logger

if TYPE_CHECKING:
    from pathlib import Path

    from backup.openpgp.crypt import Keyring
    from backup.openpgp.signature import Signed

log = get_logger(__name__)


def opening_keys(settings: Settings, key_file: Path | None = None) -> tuple[Path, ...]:
    """Return the files at hand with a private key that opens manifests."""
    of_manifests, of_drill = map(settings.secret_path, (MANIFEST_KEY, DRILL_KEY))
    at_hand = (key_file or of_drill, of_manifests)
    return tuple(path for path in at_hand if path.exists() or path == key_file)


class Opener:
    """The keys that open manifests; their rings are made when needed, and live as the block does.

    ``unsigned`` takes what has no signature, or one that no key is there for, and says so in the
    log; never one that was checked and is wrong.
    """

    def __init__(
        self, settings: Settings, key_file: Path | None = None, *, unsigned: bool = False
    ) -> None:
        """Use ``key_file``, or the private key in ``settings``' secret files."""
        self.signers = Signers.of(settings)
        self._secrets = settings.secrets_dir
        self._keys = opening_keys(settings, key_file)
        self._unsigned = unsigned
        self._opened = ExitStack()
        self._ring: Keyring | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._opened.close()
        self.signers.__exit__(*error)

    @property
    def has_keys(self) -> bool:
        """Whether there are public keys of signers, and a private key, at all."""
        return bool(self._keys) and self.signers.armoured.exists()

    def check(self, signed: Signed) -> None:
        """Raise :class:`NotTrusted` unless it is signed as :meth:`Signers.check` wants it."""
        try:
            self.signers.check(signed)
        except (NotTrusted, WrongUse) as error:
            if not self._unsigned or (signed.signature and self.signers.knows(signed.signer)):
                raise
            log.warning("signature not checked, as you wish", of=signed.what, why=error.message)

    def decrypt(self, what: str, data: bytes) -> bytes:
        """Return what is encrypted in ``data``. Raises Failure if the key at hand does not fit."""
        try:
            return self._private().decrypt(data)
        except ChildFailed as error:
            files = " or ".join(map(str, self._keys))
            raise Failure(
                f"{what} cannot be opened with the key in {files} ({error.message})",
                hint="Give the private key of one of its recipients by --key-file: the drill's, "
                "recovery's, or the one of manifests.",
            ) from error

    def _private(self) -> Keyring:
        with self._lock:
            if self._ring is None:
                if not self._keys:
                    raise WrongUse(
                        f"no private key is at hand: neither {DRILL_KEY} nor {MANIFEST_KEY} is in "
                        f"{self._secrets}",
                        hint="Let the job's Vault template render one, or give --key-file.",
                    )
                self._ring = self._opened.enter_context(private_key(*self._keys))
            return self._ring
