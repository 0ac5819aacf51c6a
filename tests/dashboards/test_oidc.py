"""People who log in at an identity provider: one of the test's own, which signs as a real one."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.conftest import free_port
from tests.dashboards.service import started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.dashboards.service import Service

pytestmark = pytest.mark.programs

CLIENT = "superset"


class Provider:
    """An OpenID Connect provider that lets in whoever ``person`` says, without asking."""

    def __init__(self) -> None:
        self.person: dict[str, Any] = {}
        self.nonce = ""
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, query: dict[str, list[str]]) -> dict[str, Any] | str:
        """Return JSON, or where to send the browser."""
        if path == "/.well-known/openid-configuration":
            return {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "userinfo_endpoint": f"{self.issuer}/userinfo",
                "jwks_uri": f"{self.issuer}/keys",
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        if path == "/keys":
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
            return {"keys": [{**public, "kid": "test", "use": "sig", "alg": "RS256"}]}
        if path == "/authorize":
            self.nonce = query["nonce"][0]
            back = urlencode({"code": "code", "state": query["state"][0]})
            return f"{query['redirect_uri'][0]}?{back}"
        if path == "/token":
            claims = {
                "iss": self.issuer, "aud": CLIENT, "sub": "1", "nonce": self.nonce,
                "iat": int(time.time()), "exp": int(time.time()) + 600, **self.person,
            }  # fmt: skip
            token = jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": "test"})
            return {
                "access_token": "a", "token_type": "Bearer", "expires_in": 600, "id_token": token,
            }  # fmt: skip
        return {"sub": "1", **self.person}

    def _handler(provider) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - beside the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = provider.answer(parts.path, parse_qs(parts.query))
                if isinstance(answer, str):
                    self.send_response(302)
                    self.send_header("Location", answer)
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            do_POST = do_GET  # noqa: N815 - its name is the library's

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        try:
            yield
        finally:
            self.server.shutdown()
            thread.join()
            self.server.server_close()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    with made.running():
        yield made


@pytest.fixture(scope="module")
def by_oidc(
    superset: Service, provider: Provider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A second process on the same database, as it is with a provider in Vault."""
    file: Path = tmp_path_factory.mktemp("oidc") / "oidc.json"
    file.write_text(
        json.dumps({"issuer": provider.issuer, "client_id": CLIENT, "client_secret": "hush-hush"})
    )
    other = replace(superset, port=free_port())
    with started(other, DASHBOARDS_OIDC_FILE=str(file)):
        yield other


def log_in(service: Service, provider: Provider, **person: Any) -> dict[str, Any]:
    """Log in as ``person`` and return what Superset says who that is."""
    provider.person = person
    browser = requests.Session()
    answer = browser.get(f"{service.url}/login/school", timeout=60)
    assert answer.status_code == 200, answer.text[:500]
    found = browser.get(f"{service.url}/api/v1/me/roles/", timeout=60)
    return found.json()["result"] if found.ok else {}  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("groups", "roles"),
    [
        (["leadership"], {"leadership"}),
        (["analysts", "choir"], {"analysts"}),
        (["platform"], {"Admin"}),
        (["choir"], set()),
        (["Admin"], set()),  # a group that is called like a role brings none
    ],
)
def test_a_group_brings_its_role_and_no_other_does(
    by_oidc: Service, provider: Provider, groups: list[str], roles: set[str]
) -> None:
    name = "-".join(groups).lower()
    found = log_in(
        by_oidc, provider, preferred_username=name, email=f"{name}@example.org", groups=groups,
        given_name="A", family_name="B",
    )  # fmt: skip
    # Everybody has Public, which may nothing: not even ask who one is.
    assert set(found.get("roles", {})) - {"Public"} == roles
    assert "hush-hush" not in by_oidc.log()


def test_who_leaves_a_group_loses_its_role_at_the_next_login(
    by_oidc: Service, provider: Provider
) -> None:
    person = {"preferred_username": "leaver", "email": "leaver@example.org"}
    assert set(log_in(by_oidc, provider, **person, groups=["platform"])["roles"]) >= {"Admin"}
    found = log_in(by_oidc, provider, **person, groups=["leadership"])
    assert set(found["roles"]) - {"Public"} == {"leadership"}
