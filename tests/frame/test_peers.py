"""Webhooks, mail servers and Nomad: told of nothing unless they are trusted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from backup.cluster import stream_snapshot
from backup.proof.alerts import Alerts
from backup.settings import NOMAD_TOKEN, Settings
from frame import trust
from frame.failure import Failure
from ingest import alerts, contract
from ingest.connections import Entry
from ingest.job import Job
from scripts.repository import ROOT
from tests.http_server import http_server
from tests.mail_server import mail_server
from tests.tls import PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.tls import Authority, Peer

SECRET = "s3cret"  # noqa: S105
AT_ONCE = 5.0  # seconds; what may pass is tried for a quarter of a minute
PIPELINE = """\
source: hr
schema: raw_hr
schedule: "@daily"
owner: people
email: [ama@school.example]
tables: [{name: public.*}]
"""


def ingest_alert(url: str) -> None:
    alerts.deliver("hook", lambda name: Entry(name, "https", url), {"status": "failed"})


def backup_alert(url: str) -> None:
    Alerts.model_validate({"webhook": url}).failed("restore-drill", "local", [])


def backup_ping(url: str) -> None:
    Alerts.model_validate({"ping": url}).good("hr")


def assert_told(said: str, peer: Peer) -> None:
    """Assert that a fault is told with the way out, and no secret."""
    assert peer.fault in said.replace("\\'", "'")
    assert ("not delivered" in said or "not sent" in said) == bool(peer.fault)
    assert ("hint" in said.lower()) == bool(peer.fault)
    assert SECRET not in said


@pytest.mark.parametrize("tell", [ingest_alert, backup_alert, backup_ping])
def test_a_webhook(
    peer: Peer,
    authority: Authority,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tell: Callable[[str], None],
) -> None:
    with http_server(tls=authority.context(tmp_path)) as hook:
        began = time.monotonic()
        tell(f"https://{peer.host}:{hook.port}/{SECRET}")
        assert time.monotonic() - began < AT_ONCE
        assert len(hook.requests) == (0 if peer.fault else 1)
    assert_told(caplog.text, peer)


@pytest.mark.parametrize("kind", ["smtp", "smtps"])
def test_a_mail_server(
    peer: Peer, authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    (tmp_path / "hr.yaml").write_text(PIPELINE)
    with mail_server(authority.context(tmp_path), at_once=kind == "smtps") as server:
        uri = f"{kind}://harmattan:{SECRET}@{peer.host}:{server.port}/?from_email=a@school.example"
        job = Job(
            contract.read(tmp_path / "hr.yaml"), "hr", "1", lambda name: Entry(name, kind, uri)
        )
        alerts.failed(job, Failure("table raw_hr.a: none", "Look."), None, step="audit")
        assert server.logins == ([] if peer.fault else [("harmattan", SECRET)])
        assert len(server.mails) == len(server.logins)
    assert_told(caplog.text, peer)


def test_nomad_whose_state_is_backed_up(peer: Peer, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / NOMAD_TOKEN).write_text(SECRET)
    with http_server(tls=authority.context(tmp_path)) as server:
        address = f"https://{peer.host}:{server.port}"
        settings = Settings(
            secrets_dir=tmp_path, b2_realm="production", bucket="a-bucket", prefix="local",
            nomad_address=address,
        )  # fmt: skip
        with pytest.raises(Failure) as caught, (tmp_path / "snapshot").open("wb") as sink:
            stream_snapshot(settings, "nomad", sink)
        assert len(server.requests) == (0 if peer.fault else 1)
    if peer.fault:
        assert caught.value.message == (
            f"nomad at {address}: expected a good certificate, found {peer.fault}"
        )
    else:
        assert "snapshot of nomad" in caught.value.message  # it answers without one


# Airflow's own way to a mail server: what analysts' tasks send by.
MAIL = """
import json, os, sys
from airflow.providers.smtp.hooks.smtp import SmtpHook
said = []
for conn_id in sys.argv[1:]:
    try:
        with SmtpHook(conn_id) as hook:
            hook.send_email_smtp(to="ama@school.example", subject="x", html_content="x")
        said.append("sent")
    except Exception as error:
        said.append(f"{type(error).__name__}: {error}")
print(json.dumps(said))
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [True, False])
def test_a_mail_server_of_airflows(authority: Authority, tmp_path: Path, own: bool) -> None:
    tls = authority.context(tmp_path)
    with mail_server(tls) as starttls, mail_server(tls, at_once=True) as smtps:
        given: dict[str, dict[str, Any]] = {}
        for host in ("127.0.0.1", "localhost"):
            for server in (starttls, smtps):
                given[f"{host}_{server.port}".replace(".", "_")] = {
                    "conn_type": "smtp", "host": host, "port": server.port,
                    "login": "harmattan", "password": SECRET,
                    "extra": {"from_email": "a@school.example", "retry_limit": 0,
                              "disable_ssl": not server.at_once, "disable_tls": server.at_once},
                }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "frame.trust", sys.executable, "-W", "ignore", "-c", MAIL,
             *given],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
            env={
                "PATH": os.environ["PATH"], "HOME": str(tmp_path), "AIRFLOW_HOME": str(tmp_path),
                "TMPDIR": str(tmp_path), "PYTHONPATH": f"{ROOT}/airflow:{ROOT}",
                "SSL_CERT_FILE": PUBLIC, trust.OWN: authority.pem if own else "",
                **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(each)
                   for name, each in given.items()},
            },
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        said = json.loads(done.stdout.splitlines()[-1])
        reason = "Hostname mismatch" if own else "unable to get local issuer certificate"
        assert [each == "sent" for each in said] == [own, own, False, False]
        assert all(reason in each for each in said[2:])
        for server in (starttls, smtps):
            assert len(server.mails) == len(server.logins) == own
        assert SECRET not in done.stdout + done.stderr
