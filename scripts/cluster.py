"""The cluster's Nomad, by python-nomad; the one module that imports that library.

The folder nomad/ of this repository has its name, and only what is imported here could be confused.
"""

from __future__ import annotations

from nomad import Nomad
from nomad.api.exceptions import BaseNomadException as NomadError
from nomad.api.exceptions import URLNotFoundNomadException as NotFound

__all__ = ["Nomad", "NomadError", "NotFound", "connect"]

TIMEOUT = 30  # seconds an answer may take; the library's own 5 are few for a busy cluster


def connect(
    address: str, token: str | None, *, ca_file: str | None = None, namespace: str | None = None
) -> Nomad:
    """Return a client of the Nomad at ``address``, whose certificate is always checked.

    ``ca_file`` is the file of the cluster's own CA, where it has one (``NOMAD_CACERT``); without
    a ``namespace`` the client asks for what has none, or for jobs of Nomad's default one.
    """
    return Nomad(
        address=address, token=token, verify=ca_file or True, timeout=TIMEOUT, namespace=namespace
    )
