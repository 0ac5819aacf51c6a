"""What went wrong in a load by dlt, in one line that repeats no row and no secret."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg2
import requests
from dlt.common.schema.exceptions import DataValidationError
from sqlalchemy.exc import DBAPIError

from frame.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlt.pipeline.exceptions import PipelineStepFailed

_REFUSED = (requests.codes.unauthorized, requests.codes.forbidden)


class LoadError(Failure):
    """A load by dlt failed; what it had not completed is done again by the next run."""


def from_dlt(source: str, failed: PipelineStepFailed) -> LoadError:
    """Return what made a step of dlt fail, as far as it is known."""
    for error in _causes(failed):
        if isinstance(error, Failure):
            return LoadError(f"source {source}: {error.message}", error.hint)
        if isinstance(error, DataValidationError):
            return _contract(source, error)
        if isinstance(error, requests.RequestException):
            return _web(source, error)
        if isinstance(error, DBAPIError):
            code = error.orig.args[0] if error.orig and error.orig.args else "none"
            return LoadError(
                f"source {source}: the database refused: {type(error.orig).__name__}, code {code}",
                "Look at the source's connection, at its tables and at the rights of its login.",
            )
        if isinstance(error, psycopg2.Error):
            said = error.pgcode or type(error).__name__
            return LoadError(
                f"source {source}: the warehouse refused the step {failed.step}: {said}",
                "42501 is a schema that is not yours: ask the platform team to make it, with its"
                " staging. Any other code is one of PostgreSQL's appendix A.",
            )
    kind = type(list(_causes(failed))[-1]).__name__
    return LoadError(
        f"source {source}: step {failed.step} failed: {kind}",
        "Run it at your desk with DESTINATION_TYPE=duckdb to see more.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that it came from, the outermost first."""
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__


def _contract(source: str, error: DataValidationError) -> LoadError:
    where = f"table {error.table_name}"
    if error.column_name:
        where += f", column {error.column_name}"
    return LoadError(
        f"source {source}: {where}: the contract {error.schema_entity}:"
        f" {error.contract_mode} does not take what came",
        "Look at what is new at the source; then name the column in the source's columns, or"
        " choose evolve, discard_value or discard_row.",
    )


def _web(source: str, error: requests.RequestException) -> LoadError:
    url = urlsplit((error.request and error.request.url) or "")
    where = f"{url.scheme}://{url.hostname}{url.path}"  # what follows may be a key
    if error.response is None:
        return LoadError(
            f"source {source}: {where} gave no answer: {type(error).__name__}",
            "Run it again when the service is back.",
        )
    status = error.response.status_code
    hint = "Run it again when the service is back."
    if status in _REFUSED:
        hint = "Ask the platform team to put a valid token into the source's connection."
    return LoadError(f"source {source}: {where} answered {status}", hint)
