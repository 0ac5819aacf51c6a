"""Superset's settings. Every secret is in a file, and everything that nobody needs is off.

Superset loads it by `SUPERSET_CONFIG_PATH`; :mod:`dashboards.settings` names the variables.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from flask_appbuilder.const import AUTH_DB, AUTH_OAUTH
from superset import config as defaults
from superset.key_value.types import JsonKeyValueCodec

from dashboards.proxy import KnownProxies
from dashboards.roles import BY_GROUP
from dashboards.settings import Settings
from dashboards.statements import refusal
from dashboards.warehouse import with_password
from frame.trust import rooted_parameters

if TYPE_CHECKING:
    from sqlalchemy.engine.url import URL

_settings = Settings.from_environment(os.environ)
_secure = not _settings.plain_http

# --- Where Superset keeps its own things
SQLALCHEMY_DATABASE_URI = _settings.read_metadata_uri()
SECRET_KEY = _settings.read_secret_key()
# Five threads, and no more connections than that at any moment.
SQLALCHEMY_ENGINE_OPTIONS = {
    "pool_size": 3,
    "max_overflow": 2,
    "pool_pre_ping": True,  # the database may have been restarted
    "pool_recycle": 1800,
    "connect_args": {"connect_timeout": 10, "application_name": "superset"},
}

# --- Who may in. A person whose groups are not in BY_GROUP has an account without any right.
_oidc = _settings.read_oidc()
AUTH_TYPE = AUTH_OAUTH if _oidc else AUTH_DB
AUTH_ROLE_ADMIN = "Admin"
AUTH_ROLE_PUBLIC = "Public"
PUBLIC_ROLE_LIKE = None  # who is not logged in sees nothing
AUTH_USER_REGISTRATION = _oidc is not None
AUTH_USER_REGISTRATION_ROLE = AUTH_ROLE_PUBLIC
AUTH_ROLES_SYNC_AT_LOGIN = True
AUTH_ROLES_MAPPING = {group: [role] for group, role in BY_GROUP.items()}
# A whole school may stand behind one address, but nobody types twenty passwords a minute.
AUTH_RATE_LIMITED = True
AUTH_RATE_LIMIT = "20 per minute"
RATELIMIT_ENABLED = True
RATELIMIT_STORAGE_URI = "memory://"  # right because there is one process
FAB_API_SWAGGER_UI = False
FAB_ADD_SECURITY_API = False  # roles and accounts are made by `dashboards migrate` and by OIDC
if _oidc:
    from dashboards.oidc import GroupsManager

    CUSTOM_SECURITY_MANAGER = GroupsManager
    OAUTH_PROVIDERS = [
        {
            "name": "school",
            "icon": "fa-key",
            "token_key": "access_token",
            "remote_app": {
                "client_id": _oidc["client_id"],
                "client_secret": _oidc["client_secret"],
                "server_metadata_url": f"{_oidc['issuer']}/.well-known/openid-configuration",
                "client_kwargs": {"scope": "openid profile email groups"},
            },
        }
    ]

# --- Cookies and pages
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = _secure
SESSION_COOKIE_SAMESITE = "Lax"
PERMANENT_SESSION_LIFETIME = 12 * 3600  # seconds: a working day
WTF_CSRF_ENABLED = True
# A proxy with TLS says who asks, and for which name; others may say what they like.
ADDITIONAL_MIDDLEWARE = [partial(KnownProxies, addresses=_settings.proxy_addresses)]
ENABLE_CORS = False
TALISMAN_ENABLED = True
TALISMAN_CONFIG = {
    "content_security_policy": {
        "base-uri": ["'self'"],
        "default-src": ["'self'"],
        "img-src": ["'self'", "blob:", "data:"],
        "worker-src": ["'self'", "blob:"],
        "connect-src": ["'self'"],  # no maps and no telemetry of others
        "object-src": "'none'",
        "frame-ancestors": ["'self'"],
        "form-action": ["'self'", *([_oidc["issuer"]] if _oidc else [])],
        "style-src": ["'self'", "'unsafe-inline'"],  # Ant Design writes its styles so
        "font-src": ["'self'"],
        "script-src": ["'self'", "'strict-dynamic'"],
    },
    "content_security_policy_nonce_in": ["script-src"],
    "force_https": False,  # the proxy does
    "session_cookie_secure": _secure,
}
APP_NAME = "School"
LOGO_TARGET_PATH = "/dashboard/list/"
SHOW_STACKTRACE = False
DEBUG = False
HTML_SANITIZATION = True

# --- What nobody needs
FEATURE_FLAGS = {
    "ALERT_REPORTS": False,
    "DASHBOARD_RBAC": False,
    "DRILL_TO_DETAIL": False,
    "EMBEDDABLE_CHARTS": False,
    "EMBEDDED_SUPERSET": False,
    "ENABLE_FACTORY_RESET_COMMAND": False,
    "ENABLE_JAVASCRIPT_CONTROLS": False,
    "ENABLE_TEMPLATE_PROCESSING": False,  # Jinja in SQL
    "SQLLAB_BACKEND_PERSISTENCE": True,
}
ALLOWED_EXTENSIONS: set[str] = set()  # no uploads
DATASET_IMPORT_ALLOWED_DATA_URLS: list[str] = []  # a dataset brings no rows from elsewhere
CELERY_CONFIG = None
SLACK_API_TOKEN = None
MAPBOX_API_KEY = ""
ENABLE_UI_THEME_ADMINISTRATION = False
# Okabe and Ito's colours, which the colour-blind can tell apart; without the yellow, which is too
# pale on white.
EXTRA_CATEGORICAL_COLOR_SCHEMES = [
    {
        "id": "school",
        "label": "School",
        "description": "Colours that the colour-blind can tell apart",
        "isDefault": True,
        "colors": ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#595959"],
    }
]
THEME_FONT_URL_ALLOWED_DOMAINS: list[str] = []

# --- Results. In files below one folder: bounded by their number, and nothing of the warehouse is
# in Superset's database or its backups. One process, so one folder is enough.
_CACHE = {"CACHE_TYPE": "FileSystemCache", "CACHE_THRESHOLD": 500, "CACHE_DEFAULT_TIMEOUT": 300}
CACHE_CONFIG: dict[str, Any] = {**_CACHE, "CACHE_DIR": str(_settings.cache / "pages")}
DATA_CACHE_CONFIG: dict[str, Any] = {**_CACHE, "CACHE_DIR": str(_settings.cache / "results")}
# The state of filters and of half-made charts outlives a restart, in Superset's own table: a write
# removes what is too old.
_STATE = {
    "CACHE_TYPE": "SupersetMetastoreCache",
    "REFRESH_TIMEOUT_ON_RETRIEVAL": False,
    "CODEC": JsonKeyValueCodec(),
}
FILTER_STATE_CACHE_CONFIG: dict[str, Any] = {**_STATE, "CACHE_DEFAULT_TIMEOUT": 30 * 86_400}
EXPLORE_FORM_DATA_CACHE_CONFIG: dict[str, Any] = {**_STATE, "CACHE_DEFAULT_TIMEOUT": 7 * 86_400}

# --- Limits. The role of the warehouse has a shorter one of its own (statement_timeout).
SUPERSET_WEBSERVER_TIMEOUT = 60  # seconds
SQLLAB_TIMEOUT = 50
ROW_LIMIT = 10_000
SAMPLES_ROW_LIMIT = 1_000
SQL_MAX_ROW = 10_000  # marts are aggregates: beyond this a chart shows nothing that one can read
DEFAULT_SQLLAB_LIMIT = 1_000
DISPLAY_MAX_ROW = 10_000
SQLLAB_CTAS_NO_LIMIT = False
PREVENT_UNSAFE_DB_CONNECTIONS = True
# PostgreSQL lets every login lift its own limits: nobody who types SQL here does (and see
# SQL_QUERY_MUTATOR).
DISALLOWED_SQL_FUNCTIONS = {
    **defaults.DISALLOWED_SQL_FUNCTIONS,
    "postgresql": {*defaults.DISALLOWED_SQL_FUNCTIONS["postgresql"], "set_config", "pg_sleep_for"},
}

# --- Logs
LOG_LEVEL = "WARNING"
_warehouse = _settings.read_warehouse_uri()


def SQL_QUERY_MUTATOR(sql: str, **_context: Any) -> str:  # noqa: N802
    """Let nothing but queries go to the warehouse, from SQL Lab and from charts."""
    from superset.errors import ErrorLevel, SupersetError, SupersetErrorType
    from superset.exceptions import SupersetSecurityException

    if why := refusal(sql):
        raise SupersetSecurityException(
            SupersetError(
                message=why,
                error_type=SupersetErrorType.QUERY_SECURITY_ACCESS_ERROR,
                level=ErrorLevel.ERROR,
            )
        )
    return sql


def DB_CONNECTION_MUTATOR(  # noqa: N802
    uri: URL, params: dict[str, Any], *_context: Any
) -> tuple[URL, dict[str, Any]]:
    """Add the password of the warehouse's reader to a connection to exactly that database.

    So the password is in no database, and a new one counts with the next connection. The
    authorities that are trusted stand in another file in each container.
    """
    return with_password(uri, _warehouse).set(query=rooted_parameters(uri.query)), params
