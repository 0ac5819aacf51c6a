"""The one mail server of the tests: real, on loopback, with or without TLS."""

from __future__ import annotations

import base64
import socketserver
import threading
from contextlib import contextmanager, suppress
from email import message_from_bytes, policy
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from ssl import SSLContext


class Mail(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321, RFC 4954, RFC 3207) as a client needs to hand over a mail."""

    server: MailServer

    def handle(self) -> None:
        with suppress(OSError):  # a client that does not like the certificate
            if self.server.tls and self.server.at_once:
                self._encrypt(self.server.tls)
            self._converse()

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the encrypted one, which the server does not know

    def _converse(self) -> None:
        self._say("220 ready")
        while line := self.rfile.readline().decode().strip():
            verb = line.upper().split()[0]
            if verb == "EHLO":
                more = ["250-STARTTLS"] if self.server.tls and not self.server.at_once else []
                self._say("250-school.example", *more, "250 AUTH PLAIN")
            elif verb == "STARTTLS" and self.server.tls:
                self._say("220 go on")
                self._encrypt(self.server.tls)
            elif verb == "AUTH":
                _, login, password = base64.b64decode(line.split()[2]).decode().split("\0")
                self.server.logins.append((login, password))
                self._say("235 welcome")
            elif verb == "DATA":
                self._say("354 go on")
                lines = iter(self.rfile.readline, b".\r\n")
                mail = message_from_bytes(b"".join(lines), policy=policy.default)
                self.server.mails.append(mail)
                self._say("250 taken")
            else:
                self._say("221 bye" if verb == "QUIT" else "250 fine")

    def _encrypt(self, tls: SSLContext) -> None:
        self.request = tls.wrap_socket(self.request, server_side=True)
        self.setup()

    def _say(self, *lines: str) -> None:
        self.wfile.write("".join(f"{line}\r\n" for line in lines).encode())


class MailServer(socketserver.ThreadingTCPServer):
    """Keeps the mails that it takes, and who logged in with which password."""

    daemon_threads = True

    def __init__(self, tls: SSLContext | None, *, at_once: bool) -> None:
        super().__init__(("127.0.0.1", 0), Mail)
        self.tls, self.at_once = tls, at_once
        self.mails: list[EmailMessage] = []
        self.logins: list[tuple[str, str]] = []

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        return int(self.server_address[1])


@contextmanager
def mail_server(tls: SSLContext | None = None, *, at_once: bool = False) -> Iterator[MailServer]:
    """Serve with ``tls`` from the start if ``at_once``, else by STARTTLS; without one, plainly."""
    with MailServer(tls, at_once=at_once) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
