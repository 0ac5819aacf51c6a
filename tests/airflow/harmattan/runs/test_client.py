"""What the triggerer's token does at a Nomad that asks for tokens, and what it may not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from harmattan.runs.client import PIECE, Access, Nomad
from harmattan.runs.errors import LastingError, PassingError
from scripts import nomad_setup
from scripts.jobs import Namespaces
from tests.airflow.harmattan.runs.cluster import JOB, SECOND, Cluster, job, until
from tests.conftest import free_port
from tests.http_server import Answer, http_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


def work(
    cluster: Cluster,
    do: Callable[[Nomad], Awaitable[Any]],
    *,
    patience: float = 5,
    **access: Any,
) -> Any:
    """Return what ``do`` returns with a client of the triggerer's token."""

    async def ask() -> Access:
        usual = {"address": cluster.address, "namespace": "runs", "token": cluster.token}
        return Access(**{**usual, **access})

    async def main() -> Any:
        async with Nomad(ask, patience=patience, refusals=2) as nomad:
            return await do(nomad)

    return asyncio.run(main())


def dispatch(cluster: Cluster, script: str, key: str, prefix: str = "test") -> tuple[str, bool]:
    return work(  # type: ignore[no-any-return]
        cluster, lambda nomad: nomad.dispatch(JOB, {"script": script}, key=key, prefix=prefix)
    )


def test_the_same_token_dispatches_once(nomad_agent: Cluster) -> None:
    first, new = dispatch(nomad_agent, "true", "once")
    assert new
    assert dispatch(nomad_agent, "true", "once") == (first, False)
    assert dispatch(nomad_agent, "true", "other")[0] != first
    assert first.startswith(f"{JOB}/dispatch-test-")


def test_unfinished_children_are_found_by_their_prefix(nomad_agent: Cluster) -> None:
    child, _ = dispatch(nomad_agent, "sleep 60", "long", "mine")
    dispatch(nomad_agent, "sleep 60", "others", "mineral")
    look = lambda nomad: nomad.unfinished(JOB, "mine")  # noqa: E731
    assert work(nomad_agent, look) == [child]
    work(nomad_agent, lambda nomad: nomad.stop(child))
    until(lambda: work(nomad_agent, look) == [])
    (other,) = work(nomad_agent, lambda nomad: nomad.unfinished(JOB, "mineral"))
    work(nomad_agent, lambda nomad: nomad.stop(other))


def test_a_wait_ends_when_the_job_changes(nomad_agent: Cluster) -> None:
    child, _ = dispatch(nomad_agent, "sleep 1", "short")

    async def watch(nomad: Nomad) -> float:
        begun, index, status = time.monotonic(), 0, ""
        while status != "dead":
            answer = await nomad.job(child, index=index, wait=20)
            assert answer is not None
            index, status = answer["ModifyIndex"], answer["Status"]
        return time.monotonic() - begun

    assert work(nomad_agent, watch) < 10


def test_a_log_is_read_in_pieces_and_from_its_end(nomad_agent: Cluster) -> None:
    size = PIECE + 1000
    child, _ = dispatch(
        nomad_agent, f"head -c {size} /dev/zero | tr '\\0' x; echo; echo last", "much"
    )
    until(lambda: work(nomad_agent, lambda nomad: nomad.job(child))["Status"] == "dead")

    async def read(nomad: Nomad) -> tuple[list[bytes], list[bytes]]:
        (allocation,) = await nomad.allocations(child)
        pieces = [b""]
        while len(pieces) == 1 or pieces[-1]:
            at = sum(map(len, pieces))
            pieces.append(await nomad.log(allocation["ID"], "main", "stdout", at))
        asked = [("stdout", -5), ("stdout", size + 6), ("stderr", 0), ("stderr", -100)]
        return pieces, [await nomad.log(allocation["ID"], "main", *each) for each in asked]

    pieces, others = work(nomad_agent, read)
    assert len(pieces) > 3
    assert b"".join(pieces) == b"x" * size + b"\nlast\n"
    assert others == [b"last\n", b"", b"", b""]


def test_what_is_not_there_is_none(nomad_agent: Cluster) -> None:
    nowhere = "00000000-0000-0000-0000-000000000000"

    async def ask(nomad: Nomad) -> tuple[Any, ...]:
        await nomad.stop("script/dispatch-nothing")
        return (
            await nomad.job("nothing"),
            await nomad.allocations("nothing"),
            await nomad.obstacles("nothing"),
            await nomad.log(nowhere, "main", "stdout", 0),
        )

    assert work(nomad_agent, ask) == (None, [], [], b"")


def test_what_a_job_waits_for_is_said(nomad_agent: Cluster) -> None:
    huge = job("huge")
    huge["TaskGroups"][0]["Tasks"][0]["Resources"]["MemoryMB"] = 10_000_000
    nomad_agent.register(huge)

    async def ask(nomad: Nomad) -> list[str]:
        child, _ = await nomad.dispatch("huge", {"script": "true"}, key="h", prefix="h")
        while not (obstacles := await nomad.obstacles(child)):
            await asyncio.sleep(0.1)
        await nomad.stop(child)
        return obstacles

    assert work(nomad_agent, ask) == ["memory"]


@pytest.mark.parametrize(
    ("name", "meta", "found"),
    [
        ("nowhere", {"script": "x"}, "job nowhere: expected it in Nomad's namespace runs, found"),
        (JOB, {}, "found none (script are wrong)"),
        (JOB, {"script": "x", "b": "x"}, "found b, script (b are wrong)"),
    ],
    ids=["no such job", "meta that lacks", "meta too much"],
)
def test_a_dispatch_that_nomad_would_refuse_is_lasting(
    nomad_agent: Cluster, name: str, meta: dict[str, str], found: str
) -> None:
    with pytest.raises(LastingError) as raised:
        work(nomad_agent, lambda nomad: nomad.dispatch(name, meta, key="t", prefix="p"))
    assert found in raised.value.message


def test_a_job_without_parameters_or_that_is_stopped_is_lasting(nomad_agent: Cluster) -> None:
    plain = job("plain")
    plain.pop("ParameterizedJob")
    nomad_agent.register(plain)
    nomad_agent.register(job("stopped"))
    nomad_agent.api("DELETE", "job/stopped", namespace="runs").raise_for_status()
    for name, found in {"plain": "found a batch job", "stopped": "found it stopped"}.items():
        with pytest.raises(LastingError, match=found):
            dispatched = {"script": "true"}
            work(nomad_agent, lambda n: n.dispatch(name, dispatched, key="t", prefix="p"))  # noqa: B023


def test_the_token_may_do_nothing_else(nomad_agent: Cluster) -> None:
    """Register, purge, change, run commands, read files, see other namespaces and the nodes."""
    child, _ = dispatch(nomad_agent, "sleep 30", "guarded")
    nomad_agent.register(job("elsewhere") | {"Namespace": "default"})
    allocation = until(
        lambda: nomad_agent.api("GET", f"job/{child}/allocations", namespace="runs").json()
    )[0]["ID"]
    here, other = {"namespace": "runs"}, {"namespace": "default"}
    meta = {"Meta": {"script": "true"}}
    for method, path, body, where in [
        ("PUT", "jobs", {"Job": job("mine")}, here),
        ("PUT", f"job/{JOB}", {"Job": job()}, here),
        ("PUT", f"job/{JOB}/plan", {"Job": job()}, here),
        ("PUT", f"job/{JOB}/revert", {"JobID": JOB, "JobVersion": 0}, here),
        ("DELETE", f"job/{child}", None, {**here, "purge": "true"}),
        ("PUT", f"client/allocation/{allocation}/restart", {}, here),
        ("GET", f"client/fs/cat/{allocation}", None, {**here, "path": "main/local"}),
        ("GET", f"client/fs/ls/{allocation}", None, {**here, "path": "/"}),
        ("GET", "vars", None, here),
        ("PUT", "job/elsewhere/dispatch", meta, other),
        ("GET", "jobs", None, other),
        ("DELETE", "job/elsewhere", None, other),
        ("GET", "nodes", None, {}),
        ("GET", "acl/tokens", None, {}),
        ("GET", "operator/snapshot", None, {}),
        ("PUT", "system/gc", {}, {}),
    ]:
        answer = nomad_agent.api(method, path, body, token=nomad_agent.token, **where)
        # Variables that one may not see are not there.
        refused = answer.text in {"Permission denied", "[]"}
        assert refused, (method, path, answer.status_code, answer.text)
    work(nomad_agent, lambda nomad: nomad.stop(child))


def test_the_policy_is_that_of_one_jobs_identity(nomad_agent: Cluster, tmp_path: Path) -> None:
    """As docs/runbook.md attaches it: an identity that Nomad renews, and no other job's."""
    rules = nomad_setup.rules("runs", Namespaces())
    attached = {"Namespace": "default", "JobID": "airflow-triggerer"}
    policy = {"Name": "of-job", "Rules": rules, "JobACL": attached}
    nomad_agent.api("PUT", "acl/policy/of-job", policy).raise_for_status()
    for name in ("airflow-triggerer", "other"):
        spec = job(name) | {"Namespace": "default", "ParameterizedJob": None}
        (task,) = spec["TaskGroups"][0]["Tasks"]
        hour = 3600 * SECOND
        task["Identities"] = [
            {"Name": "runs", "Audience": ["nomadproject.io"], "File": True, "TTL": hour}
        ]
        script = f"cp $NOMAD_SECRETS_DIR/nomad_runs.jwt {tmp_path}/{name}; sleep 30"
        task["Config"]["args"] = ["-c", script]
        nomad_agent.register(spec)
    tokens = {name: tmp_path / name for name in ("airflow-triggerer", "other")}
    until(lambda: all(token.exists() and token.read_text() for token in tokens.values()))
    own, other = (token.read_text() for token in tokens.values())
    assert work(nomad_agent, lambda nomad: nomad.job(JOB), token=own)["ID"] == JOB
    with pytest.raises(PassingError, match="HTTP 403"):
        work(nomad_agent, lambda nomad: nomad.job(JOB), token=other)
    for name in tokens:
        nomad_agent.api("DELETE", f"job/{name}", namespace="default").raise_for_status()


def test_a_token_that_has_ended_is_asked_for_again(nomad_agent: Cluster) -> None:
    tokens = ["00000000-0000-0000-0000-000000000000", nomad_agent.token]

    async def ask() -> Access:
        return Access(nomad_agent.address, "runs", tokens.pop(0))

    async def main() -> Any:
        async with Nomad(ask, patience=5) as nomad:
            return await nomad.job(JOB)

    assert asyncio.run(main())["ID"] == JOB


def test_a_log_that_is_refused_is_no_log(nomad_agent: Cluster) -> None:
    """Nomad answers 200 and says so in the text."""
    child, _ = dispatch(nomad_agent, "echo line", "denied")
    until(lambda: work(nomad_agent, lambda nomad: nomad.job(child))["Status"] == "dead")
    (allocation,) = work(nomad_agent, lambda nomad: nomad.allocations(child))
    nobody = "00000000-0000-0000-0000-000000000000"
    with pytest.raises(PassingError, match="Permission denied"):
        work(nomad_agent, lambda n: n.log(allocation["ID"], "main", "stdout", 0), token=nobody)


def test_a_token_that_nomad_refuses_is_passing_within_seconds(nomad_agent: Cluster) -> None:
    begun, secret = time.monotonic(), "a-token-of-nobody"
    with pytest.raises(PassingError, match="HTTP 403: Permission denied") as raised:
        work(nomad_agent, lambda n: n.job(JOB), patience=600, token=secret)
    assert time.monotonic() - begun < 15
    assert secret not in f"{raised.value}{raised.value.__cause__!r}"


def test_a_nomad_that_comes_back_is_asked_again() -> None:
    port = free_port()

    async def ask() -> Access:
        return Access(f"http://127.0.0.1:{port}", "runs", "t")

    async def main() -> Any:
        async with Nomad(ask, patience=20) as nomad:
            return await nomad.job("x")

    with http_server(
        Answer(500, b"no cluster leader"), Answer(429, b""), Answer(body={"ID": "x"}), port=port
    ) as server:
        assert asyncio.run(main()) == {"ID": "x"}
        assert len(server.requests) == 3


def test_one_that_stays_away_is_passing(nomad_agent: Cluster) -> None:
    away = replace(nomad_agent, address=f"http://127.0.0.1:{free_port()}")
    with pytest.raises(PassingError, match="GET /v1/job/x: expected an answer, found: ConnectErr"):
        work(away, lambda n: n.job("x"), patience=1)
