"""A mirror with reports, served as the job dag-mirror does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from delivery import contents, history, live, mirror, report
from tests.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from delivery.contents import Contents
    from delivery.history import Sync


class Mirror:
    """The volume at ``root``, and the address at which it is served."""

    def __init__(self, root: Path) -> None:
        self.root, self.port = root / "mirror", free_port()
        self.url = f"git://127.0.0.1:{self.port}"
        self.root.mkdir()

    def write(self, syncs: Iterable[Sync], files: Mapping[str, Contents] | None = None) -> None:
        """Report ``syncs`` and the ``files`` of some, as the gate's last task does."""
        with mirror.locked(self.root):
            mirror.prepare(self.root)
            for sync in syncs:
                kept = history.store(self.root, sync)
                commit = sync.verdict.commit
                contents.store(self.root, commit, (files or {}).get(commit), kept)
            report.looked(self.root, well=True)
            report.write(self.root)

    def stand(self, commit: str, time: str) -> None:
        """Note that ``commit`` is live."""
        live.write_json(self.root / "live.json", {"commit": commit, "time": time})

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve the mirror for as long as the block."""
        with subprocess.Popen(
            [sys.executable, "-m", "delivery", "mirror", "--port", str(self.port)],
            env={
                "PATH": os.environ["PATH"],
                "DELIVERY_MIRROR": str(self.root),
                "DELIVERY_LISTEN": "127.0.0.1",
            },
            stderr=subprocess.DEVNULL,
        ) as process:
            try:
                for _ in range(400):
                    try:
                        socket.create_connection(("127.0.0.1", self.port), 1).close()
                        break
                    except OSError:
                        assert process.poll() is None
                        time.sleep(0.05)
                yield
            finally:
                process.terminate()
