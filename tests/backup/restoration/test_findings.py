"""What follows from a look: decided from plain values."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from backup.manifest import SchemaObject
from backup.restoration.finding import Finding, refuse
from backup.restoration.findings import judge
from backup.restoration.look import Existing, Facts, Server
from backup.restoration.target import Wanted
from frame.failure import Failure
from tests.backup.examples import SOURCE, manifest_of

if TYPE_CHECKING:
    from collections.abc import Mapping

EMPTY = Existing("UTF8", "C", "C", mine=True, others=0)
SERVER = Server(
    version=150018, user="me", superuser=False, createdb=True, createrole=True, free_sessions=50,
    icu=True, knows_encoding=True, roles=frozenset({"me"}), tablespaces=frozenset({"pg_default"}),
    locales=frozenset({"en_US.utf8"}), extensions={"plpgsql": frozenset({"1.0"})},
    database=EMPTY,
)  # fmt: skip
FACTS = Facts(closed=None, signed=True, free=1 << 30, clients=(15, 17), server=SERVER)
OWNED = SchemaObject(kind="TABLE", schema_name="s", name="t", owner="boss", digest="0")
MANIFEST = manifest_of(extensions={"plpgsql": "1.0"}, pg_dump_version="15.18", plain_size=1000)
WANTED = Wanted(2)


def found(
    source: Mapping[str, Any] | None = None,
    manifest: Mapping[str, Any] | None = None,
    wanted: Wanted = WANTED,
    facts: Mapping[str, Any] | None = None,
    server: Mapping[str, Any] | None = None,
) -> list[Finding]:
    """Return what is not good, where one thing or another is not as usual."""
    usual = replace(FACTS, server=replace(SERVER, **(server or {})))
    told = MANIFEST.model_copy(
        update={"source": SOURCE.model_copy(update=source or {}), **(manifest or {})}
    )
    findings = judge(told, wanted, replace(usual, **(facts or {})), "hr")
    return [finding for finding in findings if finding.state != "good"]


def test_where_all_is_there_nothing_is_said() -> None:
    findings = judge(MANIFEST, WANTED, FACTS, "hr")
    assert {finding.state for finding in findings} == {"good"}
    assert [finding.about for finding in findings] == [
        "key", "signature", "room", "client", "server", "extensions", "roles", "tablespaces",
        "database", "connections",
    ]  # fmt: skip
    refuse(findings, "hr")


CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ("key", {"facts": {"closed": ("no key", "Give one.")}}, "blocks", "no key", "Give one"),
    ("signature", {"facts": {"signed": False}}, "note", "not checked", ""),
    ("room", {"facts": {"free": 999}}, "blocks", "takes 1,000$", "larger disk"),
    (
        "room", {"manifest": {"plain_size": None}, "source": {"size": 2 << 30}},
        "blocks", "takes 2,147,483,648 by the size of the database, a guess", "larger disk",
    ),
    (
        "client", {"manifest": {"pg_dump_version": "18.1"}, "server": {"version": 180001}},
        "blocks", "made by pg_dump 18.1, clients at hand: 15, 17", "postgresql-client-18",
    ),
    (
        "server", {"manifest": {"pg_dump_version": "17.2"}},
        "note", "version 15, the source was 15: what came with 17", "",
    ),
    (
        "server", {"source": {"server_version": 180001}},
        "note", "version 15, the source was 18: what came with 18", "",
    ),
    (
        "server", {"facts": {"server": Failure("no answer", hint="Look.")}},
        "blocks", "no answer", "Look",
    ),
    (
        "extensions", {"manifest": {"extensions": {"postgis": "3.3", "plpgsql": "1.0"}}},
        "blocks", "has no postgis$", "Install their packages",
    ),
    (
        "extensions",
        {"manifest": {"extensions": {"postgis": "3.3"}}, "wanted": Wanted(2, keep_going=True)},
        "note", "has no postgis$", "",
    ),
    (
        "extensions", {"manifest": {"extensions": {"plpgsql": "2.0"}}},
        "note", "plpgsql 2.0 comes in the server's own version", "",
    ),
    ("roles", {"source": {"roles": ("me", "a b")}}, "blocks", "has no role a b", "--create-roles"),
    (
        "roles", {"source": {"roles": ("a b",)}, "wanted": Wanted(2, create_roles=True)},
        "note", "to be made, without a login: a b", "",
    ),
    (
        "roles",
        {
            "source": {"roles": ("a b",)}, "wanted": Wanted(2, create_roles=True),
            "server": {"createrole": False},
        },
        "blocks", "me may not create a b", "CREATEROLE",
    ),
    (
        "tablespaces", {"source": {"tablespaces": ("fast",), "tablespace": "big"}},
        "blocks", "has no tablespace big, fast", "--no-tablespaces",
    ),
    (
        "tablespaces",
        {"source": {"tablespaces": ("fast",)}, "wanted": Wanted(2, tablespaces="skip")},
        "note", "goes to the database's default", "",
    ),
    (
        "database", {"server": {"database": replace(EMPTY, contents=("relation a", "type b"))}},
        "blocks", "hr is not empty: it has relation a, type b", "--beside",
    ),
    ("database", {"server": {"database": None}}, "blocks", "no database hr", "--create"),
    (
        "database",
        {
            "server": {"database": None, "createdb": False}, "wanted": Wanted(2, create=True),
        },
        "blocks", "me may not create a database", "CREATEDB",
    ),
    (
        "rights", {"server": {"database": replace(EMPTY, mine=False)}},
        "note", "does not own hr: others can connect", "",
    ),
    (
        "rights",
        {"server": {"superuser": True, "databases": frozenset(("hr", "payroll"))}},
        "note", "code of the backup, .* runs as the superuser me, beside payroll$", "of its own",
    ),
    (
        "rights",
        {
            "server": {"superuser": True, "databases": frozenset(("hr",))},
            "wanted": Wanted(2, beside=True),
        },
        "note", "beside hr$", "no superuser",
    ),
    (
        "rights", {"manifest": {"objects": (OWNED,)}},
        "blocks", "me can give nothing to boss, who own some of it", "--owners skip",
    ),
    (
        "rights",
        {"manifest": {"objects": (OWNED,)}, "wanted": Wanted(2, keep_going=True)},
        "note", "to boss", "",
    ),
    (
        "extensions", {"server": {"for_superusers": frozenset(("plpgsql",))}},
        "blocks", "me may not create plpgsql", "Let a superuser create them",
    ),
    (
        "locale", {"server": {"database": replace(EMPTY, provider="i")}},
        "note", "provider of the locale i, the source had c", "",
    ),
    (
        "locale", {"server": {"database": replace(EMPTY, encoding="LATIN1")}},
        "note", "encoding LATIN1, the source had UTF8", "",
    ),
    (
        "connections", {"server": {"free_sessions": 3}},
        "blocks", "3 are free on the server, 4 are needed", "fewer --jobs",
    ),
    (
        "connections", {"server": {"database": replace(EMPTY, others=2)}},
        "note", "2 sessions of others", "",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("about", "case", "state", "said", "hint"), CASES)
def test_each_thing_in_the_way_is_found_with_its_way_out(
    about: str, case: dict[str, Any], state: str, said: str, hint: str
) -> None:
    (finding,) = found(**case)
    assert (finding.about, finding.state) == (about, state)
    assert re.search(said, finding.said), finding.said
    assert hint in finding.hint
    assert bool(finding.hint) or state == "note"


NEW = Wanted(2, create=True)


@pytest.mark.parametrize(
    ("source", "server", "said"),
    [
        ({"collate": "en_US.UTF-8", "ctype": "en_US.UTF-8"}, {}, None),
        ({"collate": "POSIX", "ctype": "C"}, {"locales": frozenset()}, None),
        ({"collate": "de_DE.utf8"}, {}, "the server knows no locale de_DE.utf8"),
        ({"encoding": "SJIS2004X"}, {"knows_encoding": False}, "no encoding SJIS2004X"),
        ({"provider": "i", "locale": "en-GH"}, {}, None),
        ({"provider": "i", "locale": "en-GH"}, {"icu": False}, "no ICU here for the locale en-GH"),
        ({"provider": "i", "locale": "de"}, {"version": 140001}, "no ICU"),
        ({"provider": "b", "locale": "C.UTF-8"}, {}, "no built-in locale C.UTF-8 before"),
        ({"provider": "b", "locale": "C.UTF-8"}, {"version": 170004}, None),
    ],
)
def test_a_locale_that_the_server_cannot_make_is_found(
    source: dict[str, Any], server: dict[str, Any], said: str | None
) -> None:
    findings = found(source, wanted=NEW, server={"database": None, **server})
    found_there = [each for each in findings if each.about == "locale"]
    if said is None:
        assert found_there == []
        return
    (finding,) = found_there
    assert (finding.state, said in finding.said) == ("blocks", True)
    assert "restore without --create" in finding.hint


def test_a_drill_takes_a_plain_locale_where_the_sources_is_missing() -> None:
    wanted = replace(NEW, any_locale=True)
    (finding,) = found({"collate": "xx_XX"}, wanted=wanted, server={"database": None})
    assert (finding.state, "a plain one takes its place" in finding.said) == ("note", True)


def test_a_table_may_land_where_others_are() -> None:
    full = {"database": replace(EMPTY, contents=("relation other",),
                                relations=frozenset({"public.other", "old.people"}))}  # fmt: skip
    people = manifest_of(tables=("public.people",)).tables
    one = Wanted(2, tables=("public.people",))
    assert found(manifest={"tables": people}, wanted=one, server=full) == []
    into = replace(one, schema="old")
    (finding,) = found(manifest={"tables": people}, wanted=into, server=full)
    assert "it has relation old.people" in finding.said


def test_what_a_login_may_own_or_need_not_create_is_in_no_ones_way() -> None:
    objects = {"objects": (OWNED, OWNED.model_copy(update={"owner": "pg_database_owner"}))}
    assert found(manifest=objects, server={"receivers": frozenset(("me", "boss"))}) == []
    assert found(manifest=objects, server={"superuser": True}) == []
    assert found(manifest=objects, wanted=Wanted(2, owners="skip")) == []
    made = {"database": replace(EMPTY, extensions=frozenset(("plpgsql",)))}
    assert found(server={"for_superusers": frozenset(("plpgsql",)), **made}) == []


def test_all_that_blocks_is_one_error() -> None:
    findings = found({"roles": ("x",), "tablespaces": ("fast",)}, facts={"free": 1, "clients": ()})
    with pytest.raises(Failure, match=r"hr cannot be restored: .*bytes free.*clients at hand: none"
                                      r".*no role x.*no tablespace fast") as caught:  # fmt: skip
        refuse(findings, "hr")
    for way_out in ("larger disk", "postgresql-client-15", "--create-roles", "--no-tablespaces"):
        assert way_out in caught.value.hint


def test_a_file_needs_no_server() -> None:
    findings = judge(MANIFEST, WANTED, replace(FACTS, server=None, clients=()), "")
    assert [finding.about for finding in findings] == ["key", "signature", "room"]
