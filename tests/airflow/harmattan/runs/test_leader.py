"""A Nomad of three servers that loses its leader between a dispatch and its answer: one run."""

from __future__ import annotations

from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest
import requests

from tests.airflow.harmattan.runs.cluster import JOB, until
from tests.airflow.harmattan.runs.test_client import work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.airflow.harmattan.runs.cluster import Cluster


pytestmark = pytest.mark.programs


@contextmanager
def losing_the_first_answer(
    address: str, lose: Callable[[Callable[[], requests.Response]], None]
) -> Iterator[str]:
    """Stand between a client and Nomad; yield the address.

    Of the first dispatch the client gets no answer: ``lose`` is called with what forwards it.
    """
    lost = []

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def _forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def ask() -> requests.Response:
                return requests.request(
                    self.command, address + self.path, data=body, timeout=60,
                    headers={"X-Nomad-Token": self.headers["X-Nomad-Token"]},
                )  # fmt: skip

            if self.command == "POST" and not lost:
                lost.append(self.path)
                lose(ask)
                self.close_connection = True
                return
            answer = ask()
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = _forward  # noqa: N815 - as http.server calls them

    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    server.daemon_threads = True
    serving = Thread(target=server.serve_forever, args=(0.05,))
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
        assert lost
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.mark.parametrize("moment", ["after it was done", "while it is done"])
def test_a_leader_lost_between_a_dispatch_and_its_answer_makes_no_second_run(
    nomad_agent: Cluster, moment: str
) -> None:
    servers = nomad_agent.servers
    dead = []

    def lose(ask: Callable[[], requests.Response]) -> None:
        if moment == "after it was done":
            ask().raise_for_status()
            dead.append(servers.kill_leader())
            return
        asking = Thread(target=ask)
        asking.start()
        dead.append(servers.kill_leader())
        asking.join()

    prefix = "after" if moment == "after it was done" else "while"
    meta = {"script": "sleep 2; echo done"}
    with losing_the_first_answer(nomad_agent.address, lose) as address:
        child, new = work(
            nomad_agent, lambda nomad: nomad.dispatch(JOB, meta, key=prefix, prefix=prefix),
            patience=60, address=address,
        )  # fmt: skip
    if moment == "after it was done":
        assert not new, "the first dispatch was done: the second must have found its run"

    def runs() -> list[str]:
        return [
            each["ID"] for each in nomad_agent.children() if f"dispatch-{prefix}-" in each["ID"]
        ]

    assert runs() == [child]
    # With another leader, and with the old one back, it is still the only one, and it ends well.
    until(lambda: work(nomad_agent, lambda n: n.job(child), patience=60)["Status"] == "dead")
    (allocation,) = work(nomad_agent, lambda nomad: nomad.allocations(child), patience=60)
    assert allocation["ClientStatus"] == "complete"
    dead[0].restart()
    again = work(
        nomad_agent, lambda nomad: nomad.dispatch(JOB, meta, key=prefix, prefix=prefix), patience=60
    )
    assert again == (child, False)
    assert runs() == [child]
