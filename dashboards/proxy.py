"""Who is believed on how a request came: the proxies of the school, and nobody else."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from werkzeug.middleware.proxy_fix import ProxyFix

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class KnownProxies(ProxyFix):
    """Werkzeug's ProxyFix, for requests that come from one of ``addresses``.

    Those are addresses and networks with commas between them, as FORWARDED_ALLOW_IPS has them.
    What others say in such headers changes nothing: the address that logins are counted by, least.
    """

    def __init__(self, app: WSGIApplication, addresses: str) -> None:
        super().__init__(app, x_host=1, x_port=1, x_prefix=1)
        self._networks = [ip_network(each.strip()) for each in addresses.split(",")]

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request, which looks as it looked to the proxy."""
        client = ip_address(environ["REMOTE_ADDR"])
        if any(client in network for network in self._networks):
            return super().__call__(environ, start_response)
        return self.app(environ, start_response)
