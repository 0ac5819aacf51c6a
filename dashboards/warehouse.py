"""The address of the warehouse without its password, which is in no database."""

from __future__ import annotations

from sqlalchemy.engine import URL, make_url


def bare(uri: str | URL) -> URL:
    """Return ``uri`` without its password (``URL.set`` of SQLAlchemy 1.4 leaves it there)."""
    url = make_url(uri)
    return URL.create(
        url.drivername,
        username=url.username,
        host=url.host,
        port=url.port,
        database=url.database,
        query=url.query,
    )


def with_password(uri: URL, known: str) -> URL:
    """Return ``uri`` with the password of ``known`` if it leads to the same database as the same.

    Another server must never be told it; how one connects (the query) may differ.
    """
    if not known or bare(uri).set(query={}) != bare(known).set(query={}):
        return uri
    return uri.set(password=make_url(known).password)
