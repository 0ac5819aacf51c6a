"""A Singer tap of one's own: school holidays from an HTTP API, page by page, and only what is new.

Answers look like ``{"holidays": [{"id": 1, "name": …}, …], "next": "/holidays?page=2"}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from singer_sdk import RESTStream, Tap
from singer_sdk import typing as th
from singer_sdk.authenticators import BearerTokenAuthenticator
from singer_sdk.pagination import BaseHATEOASPaginator

if TYPE_CHECKING:
    from urllib.parse import ParseResult

    import requests

SECONDS = 30  # that the API may take to answer


class Pages(BaseHATEOASPaginator):
    """Goes where each answer says that the next page is."""

    def get_next_url(self, response: requests.Response) -> str | None:
        """Return the next page's address, None at the last."""
        following = response.json().get("next")
        return str(following) if following else None


class Holidays(RESTStream["ParseResult"]):
    """The holidays; the SDK tries again, with growing pauses, what answers 429 or 5xx."""

    name = "holidays"
    path = "/holidays"
    primary_keys = ("id",)
    replication_key = "updated_at"
    records_jsonpath = "$.holidays[*]"
    timeout = SECONDS
    schema = th.PropertiesList(
        th.Property("id", th.IntegerType, required=True),
        th.Property("name", th.StringType, required=True),
        th.Property("begins", th.DateType, required=True),
        th.Property("ends", th.DateType, required=True),
        th.Property("updated_at", th.DateTimeType, required=True),
    ).to_dict()

    @property
    def url_base(self) -> str:
        """Where the API is."""
        return str(self.config["api_url"]).rstrip("/")

    @property
    def authenticator(self) -> BearerTokenAuthenticator:
        """Sends the token as a header, which is in no log."""
        return BearerTokenAuthenticator(token=self.config["api_token"])

    def get_new_paginator(self) -> Pages:
        """Return what finds the next page."""
        return Pages()

    def get_url_params(
        self, context: Any, next_page_token: ParseResult | None
    ) -> dict[str, Any] | str:
        """Ask for what is new; the next page's address says so itself."""
        if next_page_token:
            return dict(parse_qsl(next_page_token.query))
        since = self.get_starting_timestamp(context)
        return {"updated_since": since.isoformat()} if since else {}


class TapHolidays(Tap):
    """The tap: its settings and its streams."""

    name = "tap-holidays"
    config_jsonschema = th.PropertiesList(
        th.Property("api_url", th.StringType, required=True, description="such as https://…/v1"),
        th.Property("api_token", th.StringType, required=True, secret=True),
        th.Property("start_date", th.DateTimeType, description="the oldest change that is read"),
    ).to_dict()

    def discover_streams(self) -> list[Holidays]:
        """Return the one stream."""
        return [Holidays(tap=self)]


if __name__ == "__main__":
    TapHolidays.cli()
