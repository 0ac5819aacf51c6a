"""What only the web server loads: the page of what was delivered, in Airflow's menu."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from harmattan.overview.app import PREFIX, app


class DeliveryPage(AirflowPlugin):
    """The page under Airflow's own address and login."""

    name = "delivery_page"
    fastapi_apps = [{"app": app, "url_prefix": PREFIX, "name": "Delivery"}]  # noqa: RUF012
    # Not `nav_top_level`: Airflow 3.3.2 makes a button of it that leads nowhere.
    external_views = [  # noqa: RUF012
        {"name": "Delivery", "href": f"{PREFIX}/", "destination": "nav"}
    ]
