"""``python -m harmattan.wait URL``: wait until a service answers, at most ten minutes."""

from __future__ import annotations

import http.client
import ssl
import sys
import time
import urllib.request

# A cluster that starts from nothing migrates its database first: 2 minutes seen on 2 cores.
LIMIT = 600.0
# For a certificate that is not trusted, which no waiting mends; somebody may be changing it.
LASTING = 60.0
PAUSE = 2.0


def fault(url: str) -> tuple[str, float]:
    """Return why ``url`` does not answer a GET with a success within 5 seconds, "" if it does.

    With it comes for how long it is worth waiting, in seconds.
    """
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - the job file names the URL
            return "", LIMIT
    except (OSError, http.client.HTTPException) as error:  # urllib's own are OSErrors
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"its certificate is not trusted ({reason.verify_message})", LASTING
        return str(reason) or type(reason).__name__, LIMIT


def main() -> None:
    """Exit 0 as soon as the service answers, 1 with a clear error when it did not in time."""
    url, told = sys.argv[1], ""
    began = since = time.monotonic()
    while True:
        why, limit = fault(url)
        if not why:
            return
        now = time.monotonic()
        if why != told:
            print(f"{url}: {why}; it is asked again", flush=True)
            told, since = why, now
        if now - (since if limit == LASTING else began) > limit:
            sys.exit(
                f"{url} did not answer within {limit:.0f} s: {why}\nHINT: Look at that job first."
            )
        time.sleep(PAUSE)


if __name__ == "__main__":
    main()
