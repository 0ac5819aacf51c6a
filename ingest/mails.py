"""Sends a mail about a failed run to those whom the pipeline file names."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from ingest.errors import UnknownConnectionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ingest.connections import Entry

CONNECTION = "smtp_default"
_TIMEOUT = 10.0  # seconds an answer may take
_TLS_PORT = 465
_PLAIN_PORT = 587


@dataclass(frozen=True)
class Server:
    """A mail server; ``tls`` is ``start``, ``starttls`` or ``off``."""

    host: str
    port: int
    tls: str
    sender: str
    login: str = ""
    password: str = field(default="", repr=False)


def server(entry: Entry) -> Server:
    """Return the server that a connection tells of: a URI, or Airflow's names of its parts.

    ``smtps`` and port 465 mean encryption from the start, everything else STARTTLS, unless the
    extra ``tls`` is ``off``. Raises UnknownConnectionError without repeating a value.
    """
    try:
        split = urlsplit(entry.uri)
        extra: Mapping[str, object] = {
            **{name: values[-1] for name, values in parse_qs(split.query).items()},
            **entry.extra,
        }
        parts = entry.parts
        host = str(parts.get("host") or split.hostname or "")
        port = int(str(parts.get("port") or split.port or 0))
    except ValueError:
        host, port, extra, parts = "", 0, {}, {}
    sender = str(extra.get("from_email") or "")
    if entry.kind not in {"smtp", "smtps"} or not host or not sender:
        raise UnknownConnectionError(
            f"connection {entry.id}: expected a mail server with a sender, found something else",
            hint="It takes a URI: smtp://user:password@host:587/?from_email=someone%40example.org",
        )
    tls = "start" if entry.kind == "smtps" or port == _TLS_PORT else "starttls"
    return Server(
        host,
        port or (_TLS_PORT if tls == "start" else _PLAIN_PORT),
        "off" if str(extra.get("tls")) == "off" else tls,
        sender,
        str(parts.get("login") or unquote(split.username or "")),
        str(parts.get("password") or unquote(split.password or "")),
    )


def send(to: Sequence[str], subject: str, text: str, by: Server) -> None:
    """Send a mail of plain ``text``. Raises OSError, smtplib.SMTPException among them."""
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = subject, by.sender, ", ".join(to)
    mail.set_content(text)
    trusted = ssl.create_default_context()
    with (
        smtplib.SMTP_SSL(by.host, by.port, timeout=_TIMEOUT, context=trusted)
        if by.tls == "start"
        else smtplib.SMTP(by.host, by.port, timeout=_TIMEOUT)
    ) as session:
        if by.tls == "starttls":
            session.starttls(context=trusted)
        if by.login:
            session.login(by.login, by.password)
        session.send_message(mail)
