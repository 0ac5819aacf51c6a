"""The FAB auth manager's settings: accounts in Airflow's database, sessions there too.

Server-side sessions: a cookie names one and carries nothing that a signing key could forge.
"""

from __future__ import annotations

from airflow.configuration import conf
from flask_appbuilder.const import AUTH_DB

AUTH_TYPE = AUTH_DB
AUTH_ROLE_ADMIN = "Admin"
AUTH_USER_REGISTRATION = False
WTF_CSRF_ENABLED = True
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = conf.get("api", "base_url", fallback="").startswith("https:")
SESSION_COOKIE_SAMESITE = "Lax"
