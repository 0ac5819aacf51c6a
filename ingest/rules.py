"""What a pipeline file may say about one table: how it is loaded, and what must be true of it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ingest import names

# Validators are built once, by what is validated, and not for every model on the way there.
STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)
Load = Literal["full", "incremental", "append"]
Deletes = Literal["ignore", "detect", "mark"]
OnSchemaChange = Literal["refresh", "evolve", "fail"]
DELETED_AT = "_deleted_at"  # the column that `deletes: mark` adds to the published table

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DURATION = re.compile(r"(\d{1,6})\s*([smhdw])")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")


def _table(text: str) -> str:
    names.parse(text)
    return text


def _column(text: str) -> str:
    if not text:
        raise ValueError("expected a column's name")
    names.check_length(text)
    return text


def _duration(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("expected a duration such as 30m, 2h or 3d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _lookback(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    try:
        return _duration(value)
    except ValueError:
        raise ValueError(
            "expected a duration such as 2h, or a whole number for a cursor that is a number"
        ) from None


def _share(value: Any) -> Any:
    if isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1:
        return float(value)
    found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if found is None or float(found[1]) > 100:  # noqa: PLR2004 - per cent
        raise ValueError("expected a share such as 5%, or a number from 0 to 1")
    return float(found[1]) / 100


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _query(text: str) -> str:
    if "{table}" not in text:
        raise ValueError("expected {table} in it, where the table's name goes")
    return text


ColumnName = Annotated[str, AfterValidator(_column)]
Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^{_PERCENT.pattern}$"},
                {"type": "number", "minimum": 0, "maximum": 1},
            ]
        }
    ),
]
Duration = Annotated[
    timedelta,
    BeforeValidator(_duration),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
Lookback = Annotated[
    timedelta | int,
    BeforeValidator(_lookback),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": f"^{_DURATION.pattern}$"},
                {"type": "integer", "minimum": 0},
            ]
        }
    ),
]
Value = Annotated[
    str,
    BeforeValidator(_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
Query = Annotated[str, AfterValidator(_query)]
ColumnNames = Annotated[tuple[ColumnName, ...], Field(strict=False, min_length=1)]


class Columns(BaseModel):
    """Which columns are left out, and which arrive as keyed hashes only.

    What a file says of a name stays with the column when it gets another one
    (:mod:`ingest.classification`).
    """

    model_config = STRICT

    only: ColumnNames | None = Field(
        default=None,
        description="the only columns that are read, with those under hash: what is new at the"
        " source does not leave it",
    )
    exclude: Annotated[tuple[ColumnName, ...], Field(strict=False)] = Field(
        default=(), description="columns that are not read at all"
    )
    hash: Annotated[tuple[ColumnName, ...], Field(strict=False)] = Field(
        default=(),
        description="columns that leave the source as HMAC-SHA256 in hexadecimal digits only",
    )

    @property
    def withheld(self) -> set[str]:
        """The names of columns that are not published as they are."""
        return {*self.exclude, *self.hash}

    def leaves_out(self, column: str) -> bool:
        """Return whether a column of that name is not read at all."""
        unlisted = self.only is not None and column not in {*self.only, *self.hash}
        return unlisted or column in self.exclude


class Rows(BaseModel):
    """How many rows the published table must have."""

    model_config = STRICT

    min: Annotated[int, Field(ge=0)] | None = Field(default=None, description="at least this many")
    max: Annotated[int, Field(ge=0)] | None = Field(default=None, description="at most this many")
    max_drop: Share | None = Field(
        default=None,
        description="how far below the median of the last 7 published loads, as a share",
        examples=["20%"],
    )


class Freshness(BaseModel):
    """How old the newest value of a column may be."""

    model_config = STRICT

    column: ColumnName = Field(description="a date or a time stamp")
    max_age: Duration = Field(description="a duration such as 48h", examples=["48h"])


class Checks(BaseModel):
    """What must be true of the table before it is published."""

    model_config = STRICT

    rows: Rows = Field(default=Rows(), description="how many rows")
    nulls: dict[ColumnName, Share] = Field(
        default={}, description="column: the largest share of NULLs", examples=[{"email": "5%"}]
    )
    unique: Annotated[tuple[ColumnNames, ...], Field(strict=False)] = Field(
        default=(), description="lists of columns whose values, NULLs apart, come once"
    )
    accepted: dict[ColumnName, Annotated[tuple[Value, ...], Field(strict=False, min_length=1)]] = (
        Field(default={}, description="column: the only values, by their text; NULL is accepted")
    )
    freshness: Freshness | None = Field(default=None, description="how old the newest row may be")
    sql: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")], Query] = Field(
        default={},
        description="name: a SELECT of one true or false, {table} being the table to publish",
    )


class TableRule(BaseModel):
    """Which tables, how they are loaded, and what must be true of them."""

    model_config = STRICT

    name: Annotated[str, AfterValidator(_table)] = Field(
        description='schema.table, schema."Quoted Table" or a pattern such as schema.*',
        examples=["public.employees", "public.*"],
    )
    left_out: Annotated[tuple[Annotated[str, AfterValidator(_table)], ...], Field(strict=False)] = (
        Field(
            default=(),
            alias="except",
            description="tables that a pattern does not mean, by name or by pattern",
            examples=[["public.tmp_*"]],
        )
    )
    load: Load = Field(
        default="full",
        description="full: the published table is replaced by a whole copy; incremental: rows"
        " that are new or changed are merged by key; append: new rows are added, and none is ever"
        " changed",
    )
    key: Annotated[tuple[ColumnName, ...], Field(strict=False)] | None = Field(
        default=None,
        description="columns that tell rows apart, [] where none do; by default the source's"
        " primary key",
    )
    cursor: ColumnName | None = Field(
        default=None,
        description="column that grows whenever a row is written: a number, a date or a time;"
        " append needs one, and increments of a view - of a table they know rows by the transaction"
        " that wrote them",
        examples=["updated_at"],
    )
    lookback: Lookback | None = Field(
        default=None,
        description="how far behind the newest cursor value rows are read again, for those that"
        " commit late; by default 1h, 1d for dates and 0 for numbers",
        examples=["2h"],
    )
    deletes: Deletes = Field(
        default="ignore",
        description="of rows that left the source - ignore: an incremental load keeps them;"
        " detect: they are removed; mark: they stay, with the time in _deleted_at",
    )
    on_schema_change: OnSchemaChange = Field(
        default="refresh",
        description="refresh: load the whole table again; evolve: alter the published table where"
        " no row must be read again; fail: publish nothing",
    )
    columns: Columns = Field(default=Columns(), description="columns left out or hashed")
    checks: Checks = Field(default=Checks(), description="what must be true before it is published")

    @property
    def table(self) -> names.TableName:
        """``name``, parsed."""
        return names.parse(self.name)

    def means(self, schema: str, table: str) -> bool:
        """Return whether the rule is for a table of that name."""
        return self.table.matches(schema, table) and not any(
            names.parse(each).matches(schema, table) for each in self.left_out
        )

    @model_validator(mode="after")
    def _fits_together(self) -> TableRule:
        if self.load == "append" and self.cursor is None:
            raise _misfit("load", "expected a cursor for load: append")
        if self.lookback is not None and self.cursor is None:
            raise _misfit("lookback", "expected it only with a cursor")
        for key in ("cursor", "lookback"):
            if self.load == "full" and getattr(self, key) is not None:
                raise _misfit(key, "expected it only with load: incremental or append")
        if self.load == "append" and self.deletes != "ignore":
            raise _misfit("deletes", f"expected load: incremental for deletes: {self.deletes}")
        if self.left_out and not self.table.pattern:
            raise _misfit("except", "expected it only with a pattern such as public.*")
        return self

    @model_validator(mode="after")
    def _names_columns_that_leave(self) -> TableRule:
        columns = self.columns
        if columns.only is not None and columns.exclude:
            raise _misfit("columns", "expected either only or exclude, found both")
        both = {*columns.hash} & {*columns.exclude, *(columns.only or ())}
        if both:
            found = ", ".join(sorted(both))
            raise _misfit("columns", f"expected each name once, found two of {found}")
        needed = [("key", column) for column in self.key or ()]
        needed += [("cursor", self.cursor)] if self.cursor is not None else []
        for key, column in needed:
            if columns.leaves_out(column):
                raise _misfit(key, f"expected a column that is not left out, found {column}")
        if self.cursor in columns.hash:
            raise _misfit("cursor", f"expected a column that is not hashed, found {self.cursor}")
        return self


def _misfit(key: str, message: str) -> PydanticCustomError:
    """Return the error of a key that does not fit the others of its table."""
    return PydanticCustomError("misfit", "{message}", {"key": key, "message": message})
