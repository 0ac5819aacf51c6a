from __future__ import annotations

import pytest

from delivery.settings import FetchSettings, JudgeSettings, MirrorSettings, PublishSettings, load
from frame.failure import WrongUse

BASE = {"NOMAD_ALLOC_ID": "a-1", "DELIVERY_REMOTE": "ssh://git@172.17.0.1:2222/srv/analysts.git"}


def test_only_the_remote_and_the_allocation_must_be_said() -> None:
    settings = load(FetchSettings, BASE)
    assert (settings.branch, str(settings.incoming), settings.max_files) == (
        "main", "/incoming", 2000)  # fmt: skip
    load(JudgeSettings, {"NOMAD_ALLOC_ID": "a-1"})
    load(PublishSettings, {"NOMAD_ALLOC_ID": "a-1"})
    load(MirrorSettings, {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DELIVERY_REMOTE", "https://example.com/x.git"),
        ("DELIVERY_REMOTE", "ssh://-oProxyCommand=id@host/x"),
        ("DELIVERY_REMOTE", "ssh://git@-oProxyCommand=id/x"),
        ("DELIVERY_REMOTE", "ext::sh -c id"),
        ("DELIVERY_BRANCH", "-main"),
        ("DELIVERY_BRANCH", "a..b"),
        ("DELIVERY_BRANCH", "main:refs/heads/x"),
        ("DELIVERY_INCOMING", "incoming"),
        ("DELIVERY_MAX_FILES", "0"),
        ("NOMAD_ALLOC_ID", "../x"),
        ("NOMAD_ALLOC_ID", ""),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(WrongUse, match=f"{name}: expected .*\n?.*HINT: "):
        load(FetchSettings, BASE | {name: value})


def test_a_missing_value_is_named_with_its_meaning() -> None:
    with pytest.raises(WrongUse, match="DELIVERY_REMOTE is not set\nHINT: Set it"):
        load(FetchSettings, {"NOMAD_ALLOC_ID": "a"})


@pytest.mark.parametrize("value", ["ftp://x", "http://", "nomad:4646", "unix://x"])
def test_only_addresses_of_nomad_are_taken(value: str) -> None:
    with pytest.raises(WrongUse, match="NOMAD_ADDR"):
        load(PublishSettings, BASE | {"NOMAD_ADDR": value})
