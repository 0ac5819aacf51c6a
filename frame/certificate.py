"""Why a server's certificate is not good, and the way out, whichever library met it.

What is wrong is known by OpenSSL's code for it: each library has words of its own, and some hide
the error deep in theirs.
"""

from __future__ import annotations

import socket
import ssl
from typing import NamedTuple

from frame.failure import Failure


class Fault(NamedTuple):
    """What is wrong with a certificate, in words, and a sentence that says how to go on."""

    words: str
    hint: str


_LIMIT = 10.0  # seconds for a handshake
_CLOCK = "Renew it at the server; look at the clock of either side if it is new."
_NAME = "Let the address here be a name that its certificate is for, or give it one for this name."
_UNTRUSTED = Fault(
    "a certificate of an authority that is not trusted",
    "Add the authority that signed it to the variable ca_certificates, as the runbook says under"
    " TLS; at a desk, to the file that SSL_CERT_FILE names.",
)
_FAULTS = {
    9: Fault("a certificate that is not valid yet", _CLOCK),
    10: Fault("a certificate that has expired", _CLOCK),
    62: Fault("a certificate for other names than the host's", _NAME),
    64: Fault("a certificate for other addresses than the host's", _NAME),
}


def fault(error: BaseException) -> Fault | None:
    """Return what is wrong with the other side's certificate, if ``error`` came of that."""
    chain = [error]
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return _FAULTS.get(each.verify_code, _UNTRUSTED)
        below = (each.__cause__, each.__context__)
        chain += [cause for cause in below if cause is not None and cause not in chain]
    return None


def failure(peer: str, error: BaseException) -> Failure | None:
    """Return what to say of a ``peer`` that is not trusted, if ``error`` came of that."""
    if found := fault(error):
        return Failure(f"{peer}: expected a good certificate, found {found.words}", found.hint)
    return None


def presented(peer: str, host: str, port: int) -> Failure | None:
    """Return what to say of a ``peer`` whose certificate is not good, after asking it for it.

    For those whose library does not say what is wrong. None if it is good, or there is none.
    """
    try:
        with socket.create_connection((host, port), _LIMIT) as wire:
            ssl.create_default_context().wrap_socket(wire, server_hostname=host).close()
    except OSError as error:
        return failure(peer, error)
    return None
