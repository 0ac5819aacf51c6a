"""Where the web server fetches logs: from log servers on nodes, whatever a task says of its host.

A task's host is what its process says it is: ``somewhere:1234/path?`` would have the web server
fetch any URL that it reaches, and show it as a log.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address

import requests
from airflow.api_fastapi.auth.tokens import JWTGenerator, get_signing_key
from airflow.configuration import conf
from airflow.utils.log import file_task_handler

_URL = re.compile(r"http://([0-9.]{7,15}):([0-9]{1,5})/log/.*", re.DOTALL)


def fetch(url: str, log_relative_path: str) -> requests.Response:
    """Fetch a log as Airflow's own function does, and follow no redirection.

    Raises :class:`requests.RequestException`, also where the URL is none of a node's log server.
    """
    if not _is_of_a_log_server(url):
        raise requests.exceptions.InvalidSchema(
            f"{url}: expected a node's address as the task's host, found another"
        )
    # All three: a private key would be looked for otherwise.
    generator = JWTGenerator(
        secret_key=get_signing_key("api", "secret_key"), algorithm="HS512",
        private_key=None,  # type: ignore[arg-type]
        issuer=None, valid_for=conf.getint("webserver", "log_request_clock_grace", fallback=30),
        audience="task-instance-logs",
    )  # fmt: skip
    answer = requests.get(
        url, timeout=conf.getfloat("api", "log_fetch_timeout_sec"),
        headers={"Authorization": generator.generate({"filename": log_relative_path})},
        stream=True, allow_redirects=False,
    )  # fmt: skip
    if answer.is_redirect:
        answer.close()
        raise requests.TooManyRedirects(f"{url}: expected a log, found a redirection")
    answer.encoding = "utf-8"
    return answer


def fetch_from_nodes_alone() -> None:
    """Have Airflow's reader of logs go by :func:`fetch`."""
    file_task_handler._fetch_logs_from_service = fetch


def _is_of_a_log_server(url: str) -> bool:
    """Return whether the URL is of an address, and a port where logs are served."""
    found = _URL.fullmatch(url)
    options = ("worker_log_server_port", "trigger_log_server_port")
    ports = {conf.get("logging", option) for option in options}
    try:
        return bool(found and IPv4Address(found[1]) and found[2] in ports)
    except ValueError:
        return False
