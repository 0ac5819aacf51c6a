"""Chat messages of refused pushes: what they say, and what strangers cannot make of them."""

from __future__ import annotations

import secrets
from typing import Any

from delivery.chat import MOST_CHARACTERS
from tests.http_server import Answer, http_server

PAGES = "https://airflow.example.org/delivery"
HOSTILE = "```<!channel> @all"


def test_a_refused_push_is_posted_once_and_mentions_nobody(verbs: Any) -> None:
    file = verbs.place / "secrets" / "chat_webhook"
    token = secrets.token_hex()
    with http_server() as server:
        file.write_text(f"{server.url}/hooks/{token}\n")
        more = {"DELIVERY_CHAT_FILE": str(file), "DELIVERY_PAGES": PAGES}
        verbs.remote.push({"dags/a.py": "x = 1\n"})
        verbs("fetch")
        assert verbs("publish", **more).returncode == 0
        assert server.posts == []
        commit = verbs.remote.push({"dags/a.py": "x = 1\n", HOSTILE: "-> /etc/passwd"})
        for _ in range(2):
            verbs("fetch")
            done = verbs("publish", **more)
            assert done.returncode == 0
            assert token not in done.stderr
        (post,) = server.posts
        assert list(post) == ["text"]
        opening, said, link = post["text"].split("```")
        assert opening == ""
        assert "leads to /etc/passwd" in said
        assert "ama@\u200bschool.example" in said
        assert not {"<", ">", "`"} & set(said)
        assert "@all" not in said
        assert link == f"\n{PAGES}/{commit}"

        many = {f"links/{n:03}{'x' * 60}": "-> /etc/passwd" for n in range(150)}
        verbs.remote.push({"dags/a.py": "x = 1\n"} | many)
        verbs("fetch")
        verbs("publish", **more)
        assert len(server.posts[-1]["text"]) < MOST_CHARACTERS + 200


def test_without_a_webhook_nothing_is_posted_and_one_that_refuses_is_said(verbs: Any) -> None:
    file = verbs.place / "secrets" / "chat_webhook"
    token = secrets.token_hex()
    verbs.remote.push({"a": "-> /etc/passwd"})
    verbs("fetch")
    done = verbs("publish", DELIVERY_CHAT_FILE=str(file))
    assert done.returncode == 0
    assert "chat" not in done.stderr
    with http_server(Answer(403)) as server:
        file.write_text(f"{server.url}/hooks/{token}\n")
        verbs.remote.push({"b": "-> /etc/passwd"})
        verbs("fetch")
        done = verbs("publish", DELIVERY_CHAT_FILE=str(file))
    assert done.returncode == 0
    assert "the chat was not told" in done.stderr
    assert "403" in done.stderr
    assert token not in done.stderr
