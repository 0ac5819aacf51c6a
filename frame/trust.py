"""``python -m frame.trust COMMAND…``: become COMMAND, which trusts the cluster's authorities too.

The first process of every image. A job's variable ``ca_certificates`` reaches all of its tasks as
their meta; here it joins the public authorities of the image in one file, and what reads such a
file is pointed at it: OpenSSL, and so Python, and requests and git, which have names of their own
for it. libpq alone is told by the connection (:func:`rooted`). docs/decisions/0055 says why.
"""

from __future__ import annotations

import os
import re
import ssl
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

OWN = "NOMAD_META_ca_certificates"
BUNDLE = "SSL_CERT_FILE"
"""Names the file of all authorities that are trusted; the images set it to the public ones."""
_ALSO = ("REQUESTS_CA_BUNDLE", "GIT_SSL_CAINFO")
_VERIFIES = re.compile(r"\bsslmode=verify-(ca|full)\b")
_HAS_ROOT = re.compile(r"\bsslrootcert=")


def add(environ: MutableMapping[str, str]) -> None:
    """Let programs that get ``environ`` trust the authorities that it names in OWN, if there are.

    Raises :class:`Failure` where that is no text of certificates.
    """
    own = environ.get(OWN, "").strip()
    if not own:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=own)
    except (ssl.SSLError, ValueError) as error:
        raise Failure(
            f"ca_certificates: expected certificates in PEM, found something else ({error})",
            "Write each as its file has it, from -----BEGIN CERTIFICATE----- to the end.",
        ) from None
    public = Path(environ[BUNDLE]).read_text()
    with tempfile.NamedTemporaryFile(
        "w", prefix="harmattan-trusted-", suffix=".pem", delete=False
    ) as file:
        file.write(f"{public}\n{own}\n")
    Path(file.name).chmod(0o644)  # whichever user the process becomes
    environ.update(dict.fromkeys((BUNDLE, *_ALSO), file.name))


def rooted(uri: str) -> str:
    """Return libpq's ``uri`` or string with the trusted authorities, if it wants a check by them.

    Unlike OpenSSL libpq looks nowhere by itself. It is not told by PGSSLROOTCERT, because it would
    then check certificates that nobody asked it to: ``require`` would no longer connect to a server
    with a certificate of its own making, and ``prefer`` would go on without TLS.
    """
    bundle = os.environ.get(BUNDLE)
    is_uri = "://" in uri
    options = uri.partition("?")[2] if is_uri else uri
    if not bundle or not _VERIFIES.search(options) or _HAS_ROOT.search(options):
        return uri
    return f"{uri}&sslrootcert={quote(bundle)}" if is_uri else f"{uri} sslrootcert='{bundle}'"


def rooted_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return libpq's ``parameters`` as :func:`rooted` does."""
    bundle = os.environ.get(BUNDLE)
    if bundle and str(parameters.get("sslmode")).startswith("verify-"):
        return {"sslrootcert": bundle, **parameters}
    return dict(parameters)


def main() -> None:
    """Become the command."""
    try:
        add(os.environ)
    except Failure as failure:
        sys.exit(str(failure))
    os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the image names the command


if __name__ == "__main__":
    main()
