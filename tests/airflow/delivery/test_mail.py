"""Mails to authors: to whom, what they say, and what a commit cannot make of them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

from delivery.mail import recipient
from tests.mail_server import mail_server

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = {"dags/a.py": "x = 1\n", "a": "-> /etc/passwd"}


def settings(place: Path, port: int, password: str) -> dict[str, str]:
    file = place / "secrets" / "mail_uri"
    sender = "from_email=gate%40school.example"
    file.write_text(f"smtp://gate:{password}@127.0.0.1:{port}/?{sender}&tls=off\n")
    return {
        "DELIVERY_MAIL_DOMAINS": "school.example,it.school.example",
        "DELIVERY_MAIL_FILE": str(file),
        "DELIVERY_PAGES": "https://airflow.example.org/delivery",
    }


def test_the_author_of_a_refused_push_hears_of_it_once_and_that_of_a_sound_one_not(
    verbs: Any,
) -> None:
    password = secrets.token_hex()
    with mail_server() as server:
        more = settings(verbs.place, server.port, password)
        verbs.remote.push({"dags/a.py": "x = 1\n"})
        for _ in range(2):
            verbs("fetch")
            assert verbs("publish", **more).returncode == 0
        assert server.mails == []
        commit = verbs.remote.push(REFUSED)
        for _ in range(2):
            verbs("fetch")
            done = verbs("publish", **more)
            assert done.returncode == 0
    (mail,) = server.mails
    assert (mail["To"], mail["From"]) == ("ama@school.example", "gate@school.example")
    assert mail["Subject"] == f"Push {commit[:10]} was refused"
    said = mail.get_content()
    assert "a: tree: the symbolic link leads to /etc/passwd" in said
    assert f"https://airflow.example.org/delivery/{commit}" in said
    assert server.logins == [("gate", password)]
    assert password not in done.stderr


def test_nobody_hears_of_it_unless_that_is_asked_for_and_a_server_that_is_away_is_said(
    verbs: Any,
) -> None:
    password = secrets.token_hex()
    with mail_server() as server:
        more = settings(verbs.place, server.port, password)
        verbs.remote.push(REFUSED)
        verbs("fetch")
        assert verbs("publish").returncode == 0
        verbs.remote.push(REFUSED | {"b": ""})
        verbs("fetch")
        assert verbs("publish", **more | {"DELIVERY_MAIL_DOMAINS": "other.example"}).returncode == 0
        assert server.mails == []
    verbs.remote.push(REFUSED | {"c": ""})
    verbs("fetch")
    done = verbs("publish", **more)
    assert done.returncode == 0
    assert "the author was not told" in done.stderr
    assert password not in done.stderr


@pytest.mark.parametrize(
    "author",
    [
        "Ama <ama@evil.example>", "Ama <ama@sub.school.example>", "Ama <ama@school.example.evil>",
        "Ama <ama@school.example, x@evil.example>", "Ama <ama@school.example\r\nBcc: x@evil>",
        "Ama <@school.example>", "Ama ama@school.example", "Ama <a b@school.example>",
        "Ama <ama@evil.example@school.example>", "Ama <ama@evil@school.example> x",
        "<ama@school.example> <ama@evil.example>", "Ama <\"x\"@school.example>", "",
    ],
)  # fmt: skip
def test_an_address_that_is_not_a_plain_one_of_a_named_domain_gets_no_mail(author: str) -> None:
    assert recipient(author, ("school.example",)) is None
    assert recipient("Ama <ama@school.example>", ()) is None


def test_an_address_of_a_named_domain_gets_one_however_it_is_written() -> None:
    assert recipient("Ama <Ama.M+x@School.Example>", ("school.example",)) == (
        "Ama.M+x@school.example"
    )
