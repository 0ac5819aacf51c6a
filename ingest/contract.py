"""The pipeline file: the contract between analysts and the engine.

Only keys that this version acts on are accepted; an unknown one is an error, never ignored.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from ingest import document, names, ops, schedule
from ingest.errors import ContractError, Problem
from ingest.limits import Limits
from ingest.rules import STRICT, Checks, Columns, Duration, Freshness, Rows, TableRule
from ingest.types import EXTENSIONS_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from pydantic_core import ErrorDetails

STAGING_SUFFIX = "_staging"
RESERVED_SCHEMAS = frozenset({ops.SCHEMA, EXTENSIONS_SCHEMA, "public", "information_schema"})


def _check_schema(text: str) -> str:
    names.check_length(text, names.MAX_BYTES - len(STAGING_SUFFIX))
    if text in RESERVED_SCHEMAS or text.startswith("pg_") or text.endswith(STAGING_SUFFIX):
        raise ValueError(
            f"expected a schema of the pipeline's own: not {', '.join(sorted(RESERVED_SCHEMAS))},"
            f" pg_… or …{STAGING_SUFFIX}"
        )
    return text


def _check_schedule(text: str) -> str:
    schedule.check(text)
    return text


Schedule = Annotated[str, AfterValidator(_check_schedule)]
# Without a comma: Airflow takes what they separate for several.
Owner = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.@-]{0,99}$")]
ConnectionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
EmailAddress = Annotated[str, Field(pattern=r"^[^@\s,<>]+@[^@\s,<>]+$")]


def _or_word(schema: dict[str, Any]) -> None:
    """Let a schema be one of an object whose one key may stand for it."""
    whole = dict(schema)
    schema.clear()
    schema["anyOf"] = [whole, {"enum": whole["properties"]["tables"]["enum"]}]


class Publish(BaseModel):
    """How tables go live, and what becomes of those that could not yet."""

    model_config = ConfigDict(**STRICT, json_schema_extra=_or_word)

    tables: Literal["each", "together"] = Field(
        default="each",
        description="each: by itself; together: all tables of a run in one transaction, or none",
    )
    wait: Duration = Field(
        default=timedelta(hours=6),
        description="how long a moment without long readers is looked for, during which nobody"
        " waits for us longer than half a second",
    )
    keep: Duration = Field(
        default=timedelta(days=3),
        description="how long rows stay in staging that were not published",
    )

    @model_validator(mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return {"tables": value} if isinstance(value, str) else value


class Pipeline(BaseModel):
    """One pipeline file: the tables of one source and where they are published."""

    model_config = ConfigDict(**STRICT, title="Harmattan pipeline file")

    source: ConnectionId = Field(description="connection id of the source database")
    warehouse: ConnectionId = Field(
        default="warehouse", description="connection id of the warehouse"
    )
    checks_login: ConnectionId = Field(
        default="warehouse_checks",
        description="connection id of the warehouse under which checks.sql runs: a login of its own"
        " that reads what analysts read",
    )
    published_schema: Annotated[
        str, Field(pattern=r"^[a-z_][a-z0-9_]*$"), AfterValidator(_check_schema)
    ] = Field(
        alias="schema", description="schema of the warehouse that readers see, this file's alone"
    )
    schedule: Schedule = Field(
        description="five cron fields in UTC, or a preset such as @daily",
        examples=["0 2 * * *"],
    )
    owner: Owner = Field(description="who answers for this pipeline")
    alert: ConnectionId | None = Field(
        default=None,
        description="connection id of a webhook that hears of failed runs and of recovery",
    )
    email: Annotated[tuple[EmailAddress, ...], Field(strict=False)] = Field(
        default=(),
        description="who gets a mail about a failed run, where the platform has smtp_default",
    )
    hash_key: ConnectionId = Field(
        default="hash_key", description="connection id whose password keys the hashed columns"
    )
    publish: Publish = Field(
        default_factory=Publish, description="how tables go live", examples=["together"]
    )
    limits: Limits = Field(default_factory=Limits, description="what a run may take of the source")
    tables: Annotated[tuple[TableRule, ...], Field(min_length=1, strict=False)]

    @property
    def staging_schema(self) -> str:
        """Where rows land before they are published."""
        return self.published_schema + STAGING_SUFFIX


_INSIDE: dict[str, type[BaseModel]] = {
    "checks": Checks,
    "columns": Columns,
    "rows": Rows,
    "freshness": Freshness,
    "limits": Limits,
    "publish": Publish,
}


def read(file: Path) -> Pipeline:
    """Read and check one pipeline file; raise ContractError with every fault of it."""
    document.check_name(file)
    found = document.read(file)
    if not isinstance(found.value, dict):
        problem = f"expected keys such as source and tables, found {_show(found.value)}"
        raise ContractError((Problem(file, found.line(()), "the file", problem),))
    try:
        pipeline = Pipeline.model_validate(found.value)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        inside = any(fault["loc"][:1] == ("tables",) and fault["loc"][1:] for fault in faults)
        problems = [
            _problem(found, fault)
            for fault in faults
            if not (inside and fault["type"] == "too_short")  # only for want of sound items
        ]
        raise ContractError(tuple(sorted(problems, key=lambda fault: fault.line))) from None
    _check_repeats(found, pipeline)
    return pipeline


def read_all(files: Iterable[Path]) -> Iterator[tuple[Path, Pipeline | ContractError]]:
    """Read files that go live together; yield each with its pipeline, or with all of its faults.

    Two that publish into one schema would replace each other's tables: the second is at fault.
    """
    first: dict[tuple[str, str], Path] = {}
    for file in files:
        try:
            pipeline = read(file)
        except ContractError as error:
            yield file, error
            continue
        schema = pipeline.published_schema
        other = first.setdefault((pipeline.warehouse, schema), file)
        if other == file:
            yield file, pipeline
            continue
        message = f"expected a schema of the pipeline's own, found {schema}, as in {other}"
        line = document.read(file).line(("schema",))
        yield file, ContractError((Problem(file, line, "schema", message),))


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a pipeline file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Pipeline.model_json_schema(by_alias=True),
    }


def _check_repeats(found: document.Document, pipeline: Pipeline) -> None:
    seen: dict[names.TableName, int] = {}
    for place, rule in enumerate(pipeline.tables):
        first = seen.setdefault(rule.table, place)
        if first != place:
            key = ("tables", place, "name")
            message = f"expected each name once, found {rule.name} in tables[{first}] too"
            raise ContractError(
                (Problem(found.file, found.line(key), document.show(key), message),)
            )


def _problem(found: document.Document, fault: ErrorDetails) -> Problem:
    # pydantic adds "[key]" where the key itself is at fault.
    key = tuple(part for part in fault["loc"] if part != "[key]")
    context, value = fault.get("ctx", {}), _show(fault["input"])
    match fault["type"]:
        case "extra_forbidden":
            known = _model(key)
            fields = [field.alias or name for name, field in known.model_fields.items()]
            message = f"expected one of the keys {', '.join(fields)}, found an unknown key"
        case "missing":
            message = "expected this key, found none"
        case "literal_error":
            message = f"expected {context['expected']}, found {value}"
        case "string_pattern_mismatch":
            message = f"expected text like {context['pattern']}, found {value}"
        case "misfit":
            key, message = (*key, context["key"]), context["message"]
        case "value_error":
            message = f"{context['error']}, found {value}"
        case "too_short":
            message = "expected at least one item, found none"
        case "model_type":
            first = next(iter(_model((*key, "")).model_fields))
            message = f"expected keys such as {first}, found {value}"
        case "tuple_type":
            message = f"expected a list, found {value}"
        case "string_type":
            message = f"expected text, found {value}: put it in quotes"
        case _:
            message = f"{fault['msg']}, found {value}"
    return Problem(found.file, found.line(key), document.show(key), message)


def _model(key: document.Key) -> type[BaseModel]:
    """Return the model whose keys stand around ``key``."""
    inside = [part for part in key[:-1] if isinstance(part, str)]
    return _INSIDE.get(inside[-1], TableRule) if inside else Pipeline


def _show(value: object) -> str:
    """Return a stranger's value on one short line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "keys"
        case list():
            return "a list"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004 - a line of a terminal
