"""What only the web server loads: the page of the models' documentation, in Airflow's menu."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from harmattan.models_page import PREFIX, app


class ModelsPage(AirflowPlugin):
    """The page under Airflow's own address and login."""

    name = "models_page"
    fastapi_apps = [{"app": app, "url_prefix": PREFIX, "name": "The models' documentation"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {"name": "Models", "href": f"{PREFIX}/documentation", "destination": "nav"}
    ]
