"""Lists that people keep in files: a CSV file that is replaced, and sheets that are added up."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import dlt
from dlt.extract.source import DltSource
from dlt.sources.filesystem import FileItemDict, filesystem
from harmattan.load_errors import LoadError
from openpyxl import load_workbook

CONTRACT = {"tables": "evolve", "columns": "discard_value", "data_type": "discard_row"}


@dlt.source(name="lists")
def lists(folder: str) -> DltSource:
    """Return the lists in ``folder``: a path, or an address that dlt's filesystem source takes."""
    term_dates = filesystem(folder, file_glob="term_dates.csv") | csv_rows
    sheets = filesystem(folder, file_glob="attendance/*.xlsx") | excel_rows
    return (
        term_dates.with_name("term_dates").apply_hints(
            write_disposition="replace",
            schema_contract=CONTRACT,
            columns={
                "academic_year": {"data_type": "text", "nullable": False},
                "term": {"data_type": "bigint"},
                "starts_on": {"data_type": "date"},
                "ends_on": {"data_type": "date"},
            },
        ),
        sheets.with_name("attendance").apply_hints(
            write_disposition="append",
            schema_contract=CONTRACT,
            columns={
                "file": {"data_type": "text", "nullable": False},
                "day": {"data_type": "date"},
                "form": {"data_type": "text"},
                "present": {"data_type": "bigint"},
            },
        ),
    )


@dlt.transformer
def csv_rows(files: list[FileItemDict]) -> Iterator[dict[str, Any]]:
    """Yield each line of CSV files as a dictionary; an empty field is NULL."""
    for file in files:
        with file.open(mode="rt", encoding="utf-8-sig", newline="") as opened:
            for row in csv.DictReader(opened):
                yield {name: value or None for name, value in row.items() if name}


@dlt.transformer
def excel_rows(files: list[FileItemDict]) -> Iterator[dict[str, Any]]:
    """Yield the rows of the first sheet of files that were not read yet; its first row has names.

    Raises LoadError if one was changed after it was read: its old rows are in the warehouse.
    """
    known = dlt.current.resource_state("attendance").setdefault("files", {})
    for file in files:
        name, digest = file["relative_path"], sha256(file.read_bytes()).hexdigest()
        if known.get(name) == digest:
            continue
        if name in known:
            raise LoadError(
                f"file {name}: expected it as it was loaded, found it changed",
                "Put the correction into a file of another name; appended rows are never changed.",
            )
        with file.open() as opened:
            rows = load_workbook(opened, read_only=True, data_only=True).worksheets[0].values
            header = [str(title) for title in next(rows)]
            for row in rows:
                yield {"file": name, **dict(zip(header, row, strict=True))}
        known[name] = digest
