"""What went wrong in a load by dlt, in one line that repeats no row and no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg2
import requests
from dlt.common.schema.exceptions import CannotCoerceNullException, DataValidationError
from sqlalchemy.exc import DBAPIError

from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_LATER = "Run it again when the service is back."


class LoadError(Failure):
    """A load by dlt failed; what it had not completed is done again by the next run."""


def from_dlt(source: str, failed: Exception) -> LoadError:
    """Return why dlt failed: by the outermost cause that is known, or else by its kind alone."""
    causes = list(_causes(failed))
    for error in causes:
        for kind, words in _KNOWN.items():
            if isinstance(error, kind):
                message, hint = words(error)
                return LoadError(f"source {source}: {message}", hint)
    return LoadError(
        f"source {source}: expected a load, found {type(causes[-1]).__name__}",
        "Run it at your desk with DESTINATION_TYPE=duckdb: there it shows where that came from.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it came from, the outermost first."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _contract(error: DataValidationError) -> tuple[str, str]:
    where = f"table {error.table_name}"
    if error.column_name:
        where += f", column {error.column_name}"
    contract = f"{error.schema_entity}: {error.contract_mode}"
    return (
        f"{where}: the contract {contract} does not take what came",
        "Look at what is new at the source; then name the column in the source's columns, or"
        " choose evolve, discard_value or discard_row.",
    )


def _null(error: CannotCoerceNullException) -> tuple[str, str]:
    # Its words name the table and the column, and no value.
    return (
        str(error).partition(". ")[0],
        "Look at what the source sent, or let the column be nullable.",
    )


def _web(error: requests.RequestException) -> tuple[str, str]:
    url = urlsplit((error.request and error.request.url) or "")
    where = f"{url.scheme}://{url.hostname}{url.path}"  # what follows may be a key
    if error.response is None:
        return f"{where} gave no answer: {type(error).__name__}", _LATER
    status = error.response.status_code
    refused = status in {requests.codes.unauthorized, requests.codes.forbidden}
    return (
        f"{where} answered {status}",
        "Ask the platform team to put a valid token into the source's connection."
        if refused
        else _LATER,
    )


def _database(error: DBAPIError) -> tuple[str, str]:
    code = error.orig.args[0] if error.orig and error.orig.args else "none"
    return (
        f"the database refused: {type(error.orig).__name__}, code {code}",
        "Look at the source's connection, at its tables and at the rights of its login.",
    )


def _warehouse(error: psycopg2.Error) -> tuple[str, str]:
    return (
        f"the warehouse refused it: {error.pgcode or type(error).__name__}",
        "42501 is a schema that is not yours: ask the platform team to make it, with its staging."
        " Any other code is one of PostgreSQL's appendix A.",
    )


_KNOWN: Mapping[type[BaseException], Callable[[Any], tuple[str, str]]] = {
    Failure: lambda error: (error.message, error.hint),
    DataValidationError: _contract,
    CannotCoerceNullException: _null,
    requests.RequestException: _web,
    DBAPIError: _database,
    psycopg2.Error: _warehouse,
}
