"""The console script ``dag-sync``: one verb a task."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import structlog
import typer

from delivery import fetch as fetching
from delivery import judge as judging
from delivery import mirror as mirroring
from delivery import publish as publishing
from delivery import verdict as verdicts
from delivery.errors import DeliveryError, SettingsError
from delivery.settings import (
    FetchSettings,
    JudgeSettings,
    MirrorSettings,
    PublishSettings,
    explain,
    load,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE, FAILED, WRONG_USE, NOTHING_TO_DO = 0, 1, 2, 3

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Bring the analysts' repository in, through a gate.\n\n"
    "Three verbs are the three tasks of one Nomad group, in this order: fetch (network and deploy "
    "key), judge (strangers' code in a sandbox), publish (moves `live` if Nomad says that judge "
    "ended with 0). mirror serves what was published, verdict shows the last verdict.\n\n"
    "Exit codes: 0 done, 1 failed, 2 wrong use, 3 nothing to do; judge has its own.",
)


def _teach(text: str, settings: type) -> str:
    return f"{text}\n\nEnvironment:\n\n\b\n{explain(settings)}"


@contextmanager
def _errors(failed: int = FAILED) -> Iterator[None]:
    """Turn our errors into one message and an exit code."""
    try:
        yield
    except DeliveryError as error:
        print(f"error: {error}", file=sys.stderr)
        code = WRONG_USE if isinstance(error, SettingsError) else failed
        raise typer.Exit(code) from error
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        print("HINT: See that the volumes are mounted and that the task's user owns them.",
              file=sys.stderr)  # fmt: skip
        raise typer.Exit(failed) from error


@app.callback()
def _logging() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@app.command(
    help=_teach(
        "Fetch the branch over ssh into the incoming volume, check its limits and export it "
        "read-only. Runs none of it. A push that breaks a limit is a verdict, and exit code 0.",
        FetchSettings,
    )
)
def fetch() -> None:  # noqa: D103 - its help is above, as for the verbs below
    with _errors():
        fetching.fetch(load(FetchSettings, os.environ))


@app.command(
    help=_teach(
        "Check the pipeline files, import and serialise every DAG file. Run it as root with "
        "SETUID, SETGID and KILL only: strangers' code runs as DELIVERY_STRANGER_UID.\n\n"
        "Exit codes: 0 sound (or judged before), 1 refused, 2 wrong use, 4 nothing can be said. "
        "Findings are in the log and in $NOMAD_ALLOC_DIR/data/findings.json.",
        JudgeSettings,
    )
)
def judge(  # noqa: D103
    same_user: Annotated[
        bool, typer.Option(help="Run the code as your own user: for a tree you trust, on a laptop.")
    ] = False,
) -> None:
    try:
        with _errors(judging.UNKNOWN):
            code = judging.judge(load(JudgeSettings, os.environ), os.environ, same_user=same_user)
    except Exception as error:
        if isinstance(error, typer.Exit):
            raise
        structlog.get_logger().exception("judge failed")
        raise typer.Exit(judging.UNKNOWN) from error
    raise typer.Exit(code)


@app.command(
    help=_teach(
        "Ask Nomad how judge ended and move `live` of both repositories if it ended with 0. "
        "Records the verdict in $DELIVERY_MIRROR/verdict.json and removes the run's folder. "
        "A refused push is exit code 0: the sync did its work.",
        PublishSettings,
    )
)
def publish() -> None:  # noqa: D103
    with _errors():
        publishing.publish(load(PublishSettings, os.environ))


@app.command(
    help=_teach(
        "Make the two repositories if they are not there and serve them read-only with git's "
        "daemon, which takes this process's place.",
        MirrorSettings,
    )
)
def mirror(  # noqa: D103
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Instead of DELIVERY_PORT.")
    ] = None,
) -> None:
    with _errors():
        settings = load(MirrorSettings, os.environ)
        mirroring.serve(settings if port is None else replace(settings, port=port))


@app.command(
    help=_teach(
        "Show the last verdict. Exit code 3 if no push was judged yet.\n\n"
        "To have a commit judged again, remove verdict.json from the mirror volume.",
        MirrorSettings,
    )
)
def verdict(  # noqa: D103
    as_json: Annotated[bool, typer.Option("--json", help="Print it as one JSON object.")] = False,
) -> None:
    with _errors():
        last = verdicts.load(load(MirrorSettings, os.environ).mirror / "verdict.json")
    if last is None:
        print("null" if as_json else "no push was judged yet")
        raise typer.Exit(NOTHING_TO_DO)
    if as_json:
        print(json.dumps(verdicts.as_json(last), ensure_ascii=False))
        return
    print(f"{last.commit}  {last.outcome}  {last.time}  {last.reason}")
    print(f"live: {last.live}")
    for line in (line for finding in last.findings for line in finding.lines()):
        print(line)


if __name__ == "__main__":
    app()
