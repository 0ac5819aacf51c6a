from __future__ import annotations

import pytest

from delivery.settings import FetchSettings, JudgeSettings, MirrorSettings, PublishSettings
from frame.failure import WrongUse

BASE = {"NOMAD_ALLOC_ID": "a-1", "DELIVERY_REMOTE": "ssh://git@172.17.0.1:2222/srv/analysts.git"}


def test_only_the_remote_and_the_allocation_must_be_said() -> None:
    settings = FetchSettings.from_environment(BASE)
    assert (settings.branch, str(settings.incoming), settings.max_files) == (
        "main", "/incoming", 2000)  # fmt: skip
    JudgeSettings.from_environment({"NOMAD_ALLOC_ID": "a-1"})
    PublishSettings.from_environment({"NOMAD_ALLOC_ID": "a-1"})
    MirrorSettings.from_environment({})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DELIVERY_REMOTE", "http://example.com/x.git"),
        ("DELIVERY_REMOTE", "https://user:token@example.com/x.git"),
        ("DELIVERY_REMOTE", "https://example.com/x.git?token=x"),
        ("DELIVERY_REMOTE", "ssh://-oProxyCommand=id@host/x"),
        ("DELIVERY_REMOTE", "ssh://git@-oProxyCommand=id/x"),
        ("DELIVERY_REMOTE", "ext::sh -c id"),
        ("DELIVERY_BRANCH", "-main"),
        ("DELIVERY_BRANCH", "a..b"),
        ("DELIVERY_BRANCH", "main:refs/heads/x"),
        ("DELIVERY_INCOMING", "incoming"),
        ("NOMAD_ALLOC_ID", "../x"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(WrongUse, match=f"{name} is wrong: expected "):
        FetchSettings.from_environment(BASE | {name: value})


@pytest.mark.parametrize("value", ["0", "-1", "many", "1" + "0" * 15])
def test_a_bound_is_a_whole_number_above_0(value: str) -> None:
    with pytest.raises(WrongUse, match="DELIVERY_MAX_FILES is wrong: "):
        FetchSettings.from_environment(BASE | {"DELIVERY_MAX_FILES": value})


def test_a_missing_value_is_named() -> None:
    with pytest.raises(WrongUse, match="DELIVERY_REMOTE is not set"):
        FetchSettings.from_environment({"NOMAD_ALLOC_ID": "a"})


@pytest.mark.parametrize("value", ["ftp://x", "http://", "nomad:4646", "unix://x"])
def test_only_addresses_of_nomad_are_taken(value: str) -> None:
    with pytest.raises(WrongUse, match="NOMAD_ADDR"):
        PublishSettings.from_environment(BASE | {"NOMAD_ADDR": value})


@pytest.mark.parametrize("value", ["analysts", "analysts,heavy2"])
def test_queues_are_names_with_commas(value: str) -> None:
    environ = {"NOMAD_ALLOC_ID": "a", "DELIVERY_QUEUES": value}
    assert JudgeSettings.from_environment(environ).queues == value


@pytest.mark.parametrize("value", ["Heavy", "analysts, heavy", "analysts,", "--help"])
def test_queues_that_cannot_be_are_named(value: str) -> None:
    with pytest.raises(WrongUse, match="DELIVERY_QUEUES is wrong: expected queues"):
        JudgeSettings.from_environment({"NOMAD_ALLOC_ID": "a", "DELIVERY_QUEUES": value})
