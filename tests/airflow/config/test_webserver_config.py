"""An api-server behind a proxy with TLS, on a database with TLS: what a browser keeps."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import signal
import ssl
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography.fernet import Fernet

from frame import trust
from scripts.repository import ROOT
from tests.conftest import free_port
from tests.nomad.rendering import tasks
from tests.tls import PUBLIC, Authority, secure_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.programs

# The proxy asks from another address than everybody else on this machine.
PROXY = "127.0.0.2"


@contextmanager
def proxy(port: int, certificate: tuple[Path, Path], server: int) -> Iterator[None]:
    """Answer https at ``port`` with what the server at ``server`` answers, and say so to it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = dict(self.headers) | {
                "X-Forwarded-Proto": "https", "X-Forwarded-For": self.client_address[0]
            }  # fmt: skip
            with closing(
                http.client.HTTPConnection(
                    "127.0.0.1", server, timeout=60, source_address=(PROXY, 0)
                )
            ) as asked:
                asked.request(self.command, self.path, body, headers)
                answer = asked.getresponse()
                content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in {"transfer-encoding", "content-length", "connection"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as serving:
        serving.socket = context.wrap_socket(serving.socket, server_side=True)
        thread = threading.Thread(target=serving.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            serving.shutdown()
            thread.join()


@dataclass(frozen=True)
class Service:
    """Where the api-server is, through the proxy and by its own port, and who may in."""

    public: str
    direct: str
    authority: Path
    password: str

    def log_in(self, url: str, **headers: str) -> dict[str, dict[str, Any]]:
        """Log in by the form as a browser does; return what is said of each cookie, by name."""
        cookies: dict[str, dict[str, Any]] = {}

        def keep(answer: requests.Response, *_: object, **__: object) -> None:
            for each in answer.raw.headers.getlist("Set-Cookie"):
                (name, value), *said = (part.partition("=")[::2] for part in each.split("; "))
                if value:
                    cookies[name] = {key.lower(): text for key, text in said}

        with requests.Session() as browser:
            browser.trust_env, browser.verify = False, str(self.authority)
            browser.headers.update(headers)
            browser.hooks["response"].append(keep)
            page = browser.get(f"{url}/auth/login/", timeout=120).text
            (token,) = re.findall(r'name="csrf_token"[^>]*value="([^"]+)"', page)
            form = {"username": "admin", "password": self.password, "csrf_token": token}
            # As form posts go: with the page's own address, which https wants to be told.
            done = browser.post(
                f"{url}/auth/login/", data=form, headers={"Referer": f"{url}/auth/login/"},
                allow_redirects=False, timeout=120,
            )  # fmt: skip
            assert done.status_code == 302, done.text[-2000:]
        return cookies


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("airflow")
    authority, port, server_port = Authority(), free_port(), free_port()
    (home / "own.pem").write_text(authority.pem)
    password = secrets.token_urlsafe(12)
    (home / "admin.json").write_text(json.dumps({"username": "admin", "password": password}))
    (home / "database").mkdir()
    (home / "proxy").mkdir()
    with secure_postgres(home / "database", authority) as postgres:
        uri = postgres.uri().replace("postgresql:", "postgresql+psycopg2:")
        environ = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home),
            "AIRFLOW_HOME": str(home),
            "TMPDIR": str(home), "SSL_CERT_FILE": PUBLIC, trust.OWN: authority.pem,
            "PYTHONPATH": f"{ROOT}/airflow:{ROOT}/airflow/config:{ROOT}",
            "AIRFLOW_CONFIG": str(ROOT / "airflow/config/airflow.cfg"),
            "AIRFLOW__FAB__CONFIG_FILE": str(ROOT / "airflow/config/webserver_config.py"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"{uri}?sslmode=verify-full",
            "AIRFLOW__CORE__FERNET_KEY": Fernet.generate_key().decode(),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(32),
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
            "AIRFLOW__API__BASE_URL": f"https://127.0.0.1:{port}",
            "HARMATTAN_WEBSERVER_ROLE": "postgres",
            "HARMATTAN_CLEAN_ROLE": "nobody",
            "HARMATTAN_ADMIN_FILE": str(home / "admin.json"),
            "FORWARDED_ALLOW_IPS": PROXY,
        }  # fmt: skip
        trusting = [sys.executable, "-m", "frame.trust"]
        subprocess.run(
            [*trusting, sys.executable, "-W", "ignore", "-m", "harmattan.migrate"],
            env=environ, check=True, timeout=180, cwd=home,
        )  # fmt: skip
        (task,) = [each for each in tasks("airflow-webserver") if each["Name"] == "webserver"]
        assert "FORWARDED_ALLOW_IPS" in task["Env"]
        words = task["Config"]["args"]
        words[words.index("--host") + 1] = "127.0.0.1"
        words[words.index("--port") + 1] = str(server_port)
        log = home / "log"
        with (
            log.open("wb") as output,
            subprocess.Popen([*trusting, *words], env=environ, stdout=output, stderr=output,
                             cwd=home, start_new_session=True) as process,
        ):  # fmt: skip
            try:
                direct, deadline = f"http://127.0.0.1:{server_port}", time.monotonic() + 240
                while True:
                    assert process.poll() is None, log.read_text()[-3000:]
                    assert time.monotonic() < deadline, log.read_text()[-3000:]
                    try:
                        if requests.get(f"{direct}/api/v2/version", timeout=30).ok:
                            break
                    except (requests.ConnectionError, requests.Timeout):
                        time.sleep(0.2)
                with proxy(port, authority.issue(home / "proxy"), server_port):
                    yield Service(f"https://127.0.0.1:{port}", direct, home / "own.pem", password)
            finally:
                os.killpg(process.pid, signal.SIGKILL)


def test_through_the_proxy_every_cookie_is_for_https_alone(service: Service) -> None:
    cookies = service.log_in(service.public)
    assert set(cookies) == {"session", "_token"}
    for name, said in cookies.items():
        assert {"secure", "httponly"} <= set(said), name
        assert said["samesite"] == "Lax", name


def test_who_is_no_proxy_is_not_believed(service: Service) -> None:
    """A link that the server makes says which way it thinks that the request came."""

    def way(url: str, **headers: str) -> str:
        answer = requests.get(
            f"{url}/auth/logout", headers=headers, verify=str(service.authority),
            allow_redirects=False, timeout=60,
        )  # fmt: skip
        said = " ".join(answer.raw.headers.getlist("Set-Cookie"))
        assert "_token=" in said
        return "https" if "Secure" in said else "http"

    assert way(service.public) == "https"
    assert way(service.direct) == "http"
    assert way(service.direct, **{"X-Forwarded-Proto": "https"}) == "http"
