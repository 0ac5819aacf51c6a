"""What only the web server loads: the address that the analysts' git server calls after a push."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from delivery.hook import PREFIX, app


class PushHook(AirflowPlugin):
    """Beside Airflow's API, without its login: a call is signed."""

    name = "push_hook"
    fastapi_apps = [{"app": app, "url_prefix": PREFIX, "name": "Calls of the git server"}]  # noqa: RUF012
