"""What a failure tells people, by every way that it goes: no value, and no part of a password."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest

from frame.failure import Failure
from ingest import connections, reading, run
from tests.http_server import http_server
from tests.mail_server import mail_server

if TYPE_CHECKING:
    from tests.ingest.world import World

# Beginnings of values that nobody is to see, of columns that are hashed, left out, and no key.
SECRETS = ("H4-", "X5-", "N6-")
FAILING = """
    CREATE TABLE keyed (badge text PRIMARY KEY, twin text, photo text, note text);
    INSERT INTO keyed SELECT 'H4-' || n, 'H4-twin', 'X5-photo', 'N6-' || n
      FROM generate_series(1, 5) n;
    CREATE TABLE twice (badge text, photo text);
    INSERT INTO twice SELECT 'H4-twice', 'X5-' || n FROM generate_series(1, 3) n;
    CREATE TABLE wide (badge text);
    INSERT INTO wide SELECT repeat('k', 200000) FROM generate_series(1, 5);
    CREATE TABLE empty (badge text, note text); INSERT INTO empty SELECT NULL, 'N6-1';
    CREATE VIEW cast_ AS SELECT note::int AS n FROM keyed;
    CREATE FUNCTION said(text) RETURNS text LANGUAGE plpgsql AS
      $$ BEGIN RAISE 'no such %', $1 USING HINT = $1, DETAIL = $1, ERRCODE = '23505'; END $$;
    CREATE VIEW raised AS SELECT said(note) FROM keyed
"""
RULES = (
    """name: public.keyed
    columns: {hash: [badge, twin], exclude: [photo]}
    checks:
      unique: [[twin]]
      accepted: {twin: [none], note: [none]}
      nulls: {note: 0}
      sql:
        cast: "select bool_and(note::int > 0) from {table}"
        shown: "select bool_and(query_to_xml(note, true, true, '') is null) from {table}" """,
    "name: public.twice\n    load: incremental\n    key: [badge]\n"
    "    columns: {hash: [badge], exclude: [photo]}",
    "name: public.wide\n    load: incremental\n    key: [badge]",
    "name: public.empty\n    load: incremental\n    key: [badge]\n    columns: {hash: [badge]}",
    "public.cast_",
    "public.raised",
)
HEAD = "alert: hook\nemail: [ama@school.example]\n"


def tell(world: World, *rules: str, source: str = "") -> tuple[Failure, dict[str, Any], str]:
    """Run what fails; return its error, what a webhook was sent and the text of the mail."""
    with http_server() as hook, mail_server() as post:
        others = {
            "hook": connections.Entry("hook", "http", f"{hook.url}/"),
            "smtp_default": connections.Entry(
                "smtp_default", "smtp",
                f"smtp://127.0.0.1:{post.port}/?from_email=a%40school.example&tls=off",
            ),
        }  # fmt: skip
        if source:
            others["hr"] = connections.Entry("hr", "postgresql", source)
        job = dataclasses.replace(
            world.job(*rules, head=HEAD),
            resolve=lambda name: others.get(name) or world.resolve(name),
        )
        with pytest.raises(Failure) as failure:
            run.run(job, alert=True)
        (posted,), (mail,) = hook.posts, post.mails
    return failure.value, posted, str(mail.get_content())


def test_no_value_of_a_row_leaves_by_any_way(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.at_source(FAILING)
    failure, posted, mail = tell(world, *RULES)
    ops = str([world.rows(f"SELECT * FROM ops.{name}") for name in ("runs", "tables", "checks")])
    for way in (str(failure), str(posted), mail, caplog.text, ops):
        assert "raw_hr.keyed" in way
        assert not [secret for secret in SECRETS if secret in way]
        assert len(way) < 30_000
    for table in ("keyed", "twice", "wide", "empty", "cast_", "raised"):
        assert table in posted["reason"]
        assert table in mail
    # Rows are known by their keys: the hash of one, or a hundred characters of it.
    hashes = [key for (key,) in world.rows("SELECT badge FROM raw_hr_staging.keyed")]
    assert sum(f"({key})" in posted["reason"] for key in hashes) == 5
    samples = world.rows("SELECT DISTINCT unnest(samples) FROM ops.checks")
    assert {sample for (sample,) in samples} == {f"({key})" for key in hashes}
    assert "k" * 99 in mail
    assert "k" * 101 not in mail


@pytest.mark.parametrize("odd", ["@", "%zz"])
def test_no_part_of_a_password_reaches_ops_a_webhook_or_a_mail(
    world: World, odd: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAUSES", ())
    world.at_source("CREATE TABLE a (id int)")
    user, _, rest = world.source.removeprefix("postgresql://").partition(":")
    uri = f"postgresql://{user}:Kx7{odd}Qz9@{rest.partition('@')[2]}"
    failure, posted, mail = tell(world, source=uri)
    ops = str(world.rows("SELECT * FROM ops.runs"))
    assert "connection hr" in ops
    for way in (str(failure), str(posted), mail, caplog.text, ops):
        assert "Kx7" not in way
        assert "Qz9" not in way
