"""Mails about failed runs, taken by a server of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from frame.failure import Failure
from ingest import alerts, contract, mails
from ingest.connections import Entry
from ingest.errors import UnknownConnectionError
from ingest.job import Job
from tests.mail_server import mail_server

if TYPE_CHECKING:
    from pathlib import Path


def job(folder: Path, entry: Entry, to: str = "ama@school.example, kofi@school.example") -> Job:
    file = folder / "hr.yaml"
    file.write_text(
        "source: hr\nschema: raw_hr\nschedule: '@daily'\nowner: people\n"
        f"email: [{to}]\ntables:\n  - name: public.*\n"
    )
    return Job(contract.read(file), "hr", "run 1", {"smtp_default": entry}.__getitem__)


def test_a_failed_run_is_mailed_to_who_asked_for_it(tmp_path: Path) -> None:
    with mail_server() as server:
        uri = (
            f"smtp://harmattan:s%40y@127.0.0.1:{server.port}/?from_email=a%40school.example&tls=off"
        )
        work = job(tmp_path, Entry("smtp_default", "smtp", uri))
        alerts.failed(
            work, Failure("table raw_hr.a: none", "Look."), None, step="audit", log_url="http://l/1"
        )
        (mail,) = server.mails
        assert server.logins == [("harmattan", "s@y")]
    assert mail["From"] == "a@school.example"
    assert mail["To"] == "ama@school.example, kofi@school.example"
    assert mail["Subject"] == "Pipeline hr failed"
    assert mail.get_content().splitlines() == [
        "Pipeline hr (owner: people) failed.", "",
        "table raw_hr.a: none", "HINT: Look.", "",
        "Run run 1: http://l/1",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (
            Entry("m", "smtp", "smtp://u:p@mail:25/?from_email=a@b"),
            ("mail", 25, "starttls", "a@b", "u", "p"),
        ),
        (
            Entry("m", "smtps", "smtps://mail/?from_email=a@b"),
            ("mail", 465, "start", "a@b", "", ""),
        ),
        (
            Entry("m", "smtp", "", {"host": "mail", "port": 465, "login": "u", "password": "p"},
                  {"from_email": "a@b"}),
            ("mail", 465, "start", "a@b", "u", "p"),
        ),
        (
            Entry("m", "smtp", "", {"host": "mail"}, {"from_email": "a@b", "tls": "off"}),
            ("mail", 587, "off", "a@b", "", ""),
        ),
    ],
)  # fmt: skip
def test_a_connection_is_a_uri_or_airflows_parts(entry: Entry, found: tuple[Any, ...]) -> None:
    server = mails.server(entry)
    assert (
        server.host, server.port, server.tls, server.sender, server.login, server.password
    ) == found  # fmt: skip
    assert "password" not in repr(server)


@pytest.mark.parametrize(
    "uri", ["http://mail/?from_email=a@b", "smtp://u:s3cret@mail:25/", "smtp://:s3cret@mail:x/"]
)
def test_another_connection_is_refused_without_its_value(uri: str) -> None:
    with pytest.raises(UnknownConnectionError) as caught:
        mails.server(Entry("m", uri.partition(":")[0], uri))
    assert "s3cret" not in str(caught.value)


def test_a_mail_that_is_not_taken_fails_nothing_and_says_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mail_server() as server:  # which offers no STARTTLS
        uri = f"smtp://u:s3cret@127.0.0.1:{server.port}/?from_email=a@b"
        alerts.failed(job(tmp_path, Entry("m", "smtp", uri)), Failure("x", "y"), None, step="audit")
        assert (server.mails, server.logins) == ([], [])
    assert "mail not sent by connection smtp_default" in caplog.text
    assert "s3cret" not in caplog.text
