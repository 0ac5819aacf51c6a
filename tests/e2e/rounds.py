"""What the rounds ask of the platform: its jobs stopped and started, runs of DAGs, logs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import requests
from psycopg import sql

from scripts import databases, deploy
from scripts.local import IMAGE_VARIABLES, VARIABLES
from scripts.status import newest_report  # noqa: F401

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from scripts.access import Access
