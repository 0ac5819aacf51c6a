"""``python -m harmattan.wait URL``: wait until a service answers, at most ten minutes."""

from __future__ import annotations

import http.client
import sys
import time
import urllib.error
import urllib.request

# A cluster that starts from nothing migrates its database first: 2 minutes seen on 2 cores.
LIMIT = 600.0
PAUSE = 2.0


def answers(url: str) -> bool:
    """Tell whether ``url`` answers a GET with a success within 5 seconds."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - the job file names the URL
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException):
        return False


def main() -> None:
    """Exit 0 as soon as the service answers, 1 with a clear error when it did not in time."""
    url = sys.argv[1]
    deadline = time.monotonic() + LIMIT
    while not answers(url):
        if time.monotonic() > deadline:
            sys.exit(f"{url} did not answer within {LIMIT:.0f} s\nHINT: Look at that job first.")
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
