"""The console script ``dag-sync``: one verb a task."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from delivery import fetch as fetching
from delivery import judge as judging
from delivery import mirror as mirroring
from delivery import publish as publishing
from delivery import verdict as verdicts
from delivery.settings import (
    FetchSettings,
    JudgeSettings,
    MirrorSettings,
    PublishSettings,
    VolumeSettings,
)
from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import ExitCode, Failure, WrongUse
from frame.log import get_logger
from frame.output import AsJson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frame.settings import Settings

log = get_logger(__name__)

app = Application(
    "dag-sync",
    help="Bring the analysts' repository in, through a gate.\n\n"
    "Three verbs are the three tasks of one Nomad group, in this order: fetch (network and deploy "
    "key), judge (strangers' code in a sandbox), publish (moves `live` if Nomad says that judge "
    "ended with 0). mirror serves what was published, verdict shows the last verdict.",
    epilog=exit_codes(
        {
            ExitCode.FAILED: "failed; of judge: the push is refused",
            ExitCode.NOTHING_TO_DO: "verdict: no push was judged yet",
            ExitCode.UNKNOWN: "judge: nothing can be said",
        }
    ),
)


def _reads(settings: type[Settings], codes: dict[int, str] | None = None) -> str:
    """Return what stands below a verb's options: its variables and how it ends."""
    return epilog(definitions("Environment", settings.explained()), exit_codes(codes))


@contextmanager
def _volumes() -> Iterator[None]:
    """Say of a file that cannot be reached what usually is wrong."""
    try:
        yield
    except OSError as error:
        raise Failure(
            str(error), "See that the volumes are mounted and that the task's user owns them."
        ) from error


@app.command(epilog=_reads(FetchSettings))
def fetch() -> None:
    """Fetch the branch into the incoming volume.

    It comes over ssh, its limits are checked, and it is exported read-only; none of it is run. A
    push that breaks a limit is a verdict, and exit code 0.
    """
    with _volumes():
        fetching.fetch(FetchSettings.from_environment(os.environ))


@app.command(
    epilog=_reads(
        JudgeSettings,
        {
            ExitCode.DONE: "sound, or judged before",
            ExitCode.FAILED: "refused",
            ExitCode.UNKNOWN: "nothing can be said",
        },
    )
)
def judge(
    same_user: Annotated[
        bool,
        typer.Option("--same-user", help="Run the code as your own user: a tree that you trust."),
    ] = False,
) -> None:
    """Check the pipeline files and import every DAG file.

    Every DAG is serialised, too. Run it as root with SETUID, SETGID and KILL only: strangers' code
    runs as DELIVERY_STRANGER_UID. Findings are in the log and in
    $NOMAD_ALLOC_DIR/data/findings.json.
    """
    settings = JudgeSettings.from_environment(os.environ)
    try:
        code = judging.judge(settings, os.environ, same_user=same_user)
    except WrongUse:
        raise
    except Failure as failure:
        raise Failure(failure.message, failure.hint, ExitCode.UNKNOWN) from failure
    except Exception as error:
        log.exception("judge failed")
        raise typer.Exit(ExitCode.UNKNOWN) from error
    raise typer.Exit(code)


@app.command(epilog=_reads(PublishSettings))
def publish() -> None:
    """Move `live` if the push was found sound.

    Nomad is asked how judge ended; `live` of both repositories moves if that was with 0. Records
    the verdict in $DELIVERY_MIRROR/verdict.json and removes the run's folder. A refused push is
    exit code 0: the sync did its work.
    """
    with _volumes():
        publishing.publish(PublishSettings.from_environment(os.environ))


@app.command(epilog=_reads(MirrorSettings))
def mirror(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port instead of DELIVERY_PORT.")
    ] = None,
) -> None:
    """Serve what was published, read-only.

    The two repositories are made if they are not there; then git's daemon takes this process's
    place.
    """
    settings = MirrorSettings.from_environment(os.environ)
    with _volumes():
        mirroring.serve(settings if port is None else settings.model_copy(update={"port": port}))


@app.command(
    epilog=_reads(VolumeSettings, {ExitCode.NOTHING_TO_DO: "no push was judged yet"}),
)
def verdict(as_json: AsJson = False) -> None:
    """Show the last verdict.

    To have a commit judged again, remove verdict.json from the mirror volume.
    """
    settings = VolumeSettings.from_environment(os.environ)
    if not settings.mirror.is_dir():
        raise WrongUse(
            f"there is no folder {settings.mirror}", "Name the mirror volume: DELIVERY_MIRROR."
        )
    with _volumes():
        last = verdicts.load(settings.mirror / "verdict.json")
    if last is None:
        typer.echo("null" if as_json else "no push was judged yet")
        raise typer.Exit(ExitCode.NOTHING_TO_DO)
    if as_json:
        typer.echo(json.dumps(verdicts.as_json(last), ensure_ascii=False))
        return
    typer.echo(f"{last.commit}  {last.outcome}  {last.time}  {last.reason}")
    typer.echo(f"live: {last.live}")
    for line in (line for finding in last.findings for line in finding.lines()):
        typer.echo(line)


if __name__ == "__main__":
    app.run()
