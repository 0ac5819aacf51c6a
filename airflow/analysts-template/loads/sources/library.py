"""The library's loans, by its REST API: page by page, and only what changed since the last run."""

from __future__ import annotations

import dlt
from dlt.extract.source import DltSource
from dlt.sources.helpers.requests import Client
from dlt.sources.helpers.rest_client.auth import BearerTokenAuth
from dlt.sources.rest_api import rest_api_resources

# 429, 5xx and cut connections are tried again: after what Retry-After says or 2, 4, 8... seconds,
# but never after more than a minute, and five times in all. Then the task's own retries follow.
CLIENT = {
    "request_timeout": (10, 60),  # seconds: to connect, and between two bytes
    "request_max_attempts": 5,
    "request_backoff_factor": 1,
    "request_max_retry_delay": 60,
    "raise_for_status": False,  # the source does
}


@dlt.source(name="library")
def library(url: str, token: str, since: str = "2020-01-01T00:00:00Z") -> DltSource:
    """Return the loans of the service at ``url``; the first run begins ``since`` (ISO 8601)."""
    return rest_api_resources(
        {
            "client": {
                "base_url": url,
                "auth": BearerTokenAuth(token),
                "session": Client(**CLIENT).session,
                # Pages are asked for by a mark, so the token goes to this host alone. A link to the
                # next page could name any other.
                "paginator": {
                    "type": "cursor",
                    "cursor_path": "next_cursor",
                    "cursor_param": "cursor",
                },
            },
            "resources": [
                {
                    "name": "loans",
                    "primary_key": "id",
                    "write_disposition": "merge",
                    # What the service adds fails the load until somebody has looked.
                    "schema_contract": {
                        "tables": "evolve",
                        "columns": "freeze",
                        "data_type": "freeze",
                    },
                    "columns": {
                        "id": {"data_type": "bigint"},
                        "title": {"data_type": "text"},
                        "due_on": {"data_type": "date"},
                        "returned_at": {"data_type": "timestamp"},
                        "updated_at": {"data_type": "timestamp"},
                    },
                    "endpoint": {
                        "path": "loans",
                        "data_selector": "loans",
                        "params": {"updated_since": "{incremental.start_value}"},
                        "incremental": {"cursor_path": "updated_at", "initial_value": since},
                    },
                }
            ],
        }
    )
