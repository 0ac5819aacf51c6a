"""Words of the command line that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PipelineFile = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="Pipeline file.")
]
SomeTables = Annotated[
    list[str] | None,
    typer.Option(
        "--table", help="Only this table, with or without its schema; may be given several times."
    ),
]
