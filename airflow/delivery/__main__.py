"""The console script ``dag-sync``: one verb a task."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from delivery import check as checking
from delivery import fetch as fetching
from delivery import gate
from delivery import history as histories
from delivery import judge as judging
from delivery import live as lives
from delivery import mirror as mirroring
from delivery import publish as publishing
from delivery import report as reports
from delivery import verdict as verdicts
from delivery.settings import (
    CheckSettings,
    FetchSettings,
    JudgeSettings,
    MirrorSettings,
    PublishSettings,
    VolumeSettings,
)
from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import ExitCode, Failure, WrongUse
from frame.log import get_logger
from frame.output import AsJson, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from frame.settings import Settings

log = get_logger(__name__)

app = Application(
    "dag-sync",
    help="Bring the analysts' repository in, through a gate.\n\n"
    "Three verbs are the three tasks of one Nomad group, in this order: fetch (network and deploy "
    "key), judge (strangers' code in a sandbox), publish (moves `live` if Nomad says that judge "
    "ended with 0). mirror serves what was published, verdict shows the last verdict, history the "
    "ones before; pin and unpin hold `live` at a commit and let it go. check says at a desk what "
    "the gate would say of a folder.",
    epilog=exit_codes(
        {
            ExitCode.FAILED: "failed; of judge and check: the push is refused",
            ExitCode.NOTHING_TO_DO: "verdict, history: no push was judged yet",
            ExitCode.UNKNOWN: "judge, check: nothing can be said",
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

    It comes over ssh or https, its limits are checked, and it is exported read-only; none of it is
    run. A push that breaks a limit is a verdict, and exit code 0.
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


@app.command(
    epilog=_reads(
        CheckSettings,
        {
            ExitCode.DONE: "sound: the gate will say the same",
            ExitCode.FAILED: "refused",
            ExitCode.UNKNOWN: "nothing can be said",
        },
    )
)
def check(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, resolve_path=True, metavar="[FOLDER]")
    ] = Path(),
    without_models: Annotated[
        bool,
        typer.Option("--without-models", help="Leave the models to the gate."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say of a folder what the gate would say of a push of it.

    No cluster, no network and no credentials are needed. What git tracks is looked at, and what is
    new and not ignored. The files are read as your own user, as a push of yours would be.
    """
    settings = CheckSettings.from_environment(os.environ)
    try:
        checked = checking.check(settings, folder, without_models=without_models)
    except WrongUse:
        raise
    except Failure as failure:
        raise Failure(failure.message, failure.hint, ExitCode.UNKNOWN) from failure
    if as_json:
        concluded = checked.conclusion
        value = {
            "verdict": gate.OUTCOMES[concluded.code],
            "files": checked.files,
            "seconds": round(checked.seconds, 1),
            "models": "left out" if without_models else "read",
            "findings": [asdict(each) for each in concluded.findings],
            "exemptions": [asdict(each) for each in concluded.used],
        }
        print_json(value)
    else:
        checking.show(checked, without_models=without_models)
    raise typer.Exit(checked.conclusion.code)


@app.command(epilog=_reads(PublishSettings))
def publish() -> None:
    """Move `live` if the push was found sound.

    Nomad is asked how judge ended; `live` of the DAGs' repositories moves if that was with 0.
    Records the verdict in $DELIVERY_MIRROR/verdict.json, reports it in verdicts.git there, and
    removes the run's folder. A refused push is exit code 0: the sync did its work.
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

    The repositories are made if they are not there; then git's daemon takes this process's
    place.
    """
    settings = MirrorSettings.from_environment(os.environ)
    with _volumes():
        mirroring.serve(settings if port is None else settings.model_copy(update={"port": port}))


Commit = Annotated[str, typer.Argument(help="A commit's id, or seven or more of its letters.")]


def _mirror() -> Path:
    """Return the folder of the mirror volume."""
    settings = VolumeSettings.from_environment(os.environ)
    if not settings.mirror.is_dir():
        raise WrongUse(
            f"there is no folder {settings.mirror}", "Name the mirror volume: DELIVERY_MIRROR."
        )
    return settings.mirror


@app.command(
    epilog=_reads(VolumeSettings, {ExitCode.NOTHING_TO_DO: "no push was judged yet"}),
)
def verdict(
    commit: Commit = "",
    as_json: AsJson = False,
) -> None:
    """Show the last verdict, or that on a commit of `history`.

    To have a commit judged again, remove verdict.json from the mirror volume.
    """
    with _volumes():
        root = _mirror()
        shown = (
            histories.find(root, commit).verdict if commit else verdicts.load(root / "verdict.json")
        )
        pinned = lives.load_pin(root)
    if shown is None:
        typer.echo("null" if as_json else "no push was judged yet")
        raise typer.Exit(ExitCode.NOTHING_TO_DO)
    if as_json:
        value = {**verdicts.as_json(shown), "pin": asdict(pinned) if pinned else None}
        typer.echo(json.dumps(value, ensure_ascii=False))
        return
    typer.echo(f"{shown.commit}  {shown.outcome}  {shown.time}  {shown.reason}")
    typer.echo(f"live: {shown.live}")
    _show_pin(pinned)
    for line in (line for finding in shown.findings for line in finding.lines()):
        typer.echo(line)


@app.command(
    epilog=_reads(VolumeSettings, {ExitCode.NOTHING_TO_DO: "no push was judged yet"}),
)
def history(as_json: AsJson = False) -> None:
    """Show the last 50 verdicts, the newest first, and the pin."""
    with _volumes():
        root = _mirror()
        syncs, pinned = histories.load(root), lives.load_pin(root)
    if as_json:
        value = {
            "pin": asdict(pinned) if pinned else None,
            "syncs": [histories.as_json(sync) for sync in syncs],
        }
        typer.echo(json.dumps(value, ensure_ascii=False))
    else:
        _show_pin(pinned)
        for line in (line for sync in syncs for line in sync.lines()):
            typer.echo(line)
    if not syncs:
        if not as_json:
            typer.echo("no push was judged yet")
        raise typer.Exit(ExitCode.NOTHING_TO_DO)


def _show_pin(pinned: lives.Pin | None) -> None:
    if pinned:
        typer.echo(f"pinned: {pinned.commit} since {pinned.time}, because {pinned.because}")


@app.command(epilog=_reads(VolumeSettings))
def pin(
    commit: Commit,
    because: Annotated[str, typer.Option(help="Why, for those who find it pinned.")],
) -> None:
    """Hold `live` at a commit of `history` that was sound, from now on.

    Later pushes are judged and recorded, and `live` stays where it is until `unpin`.
    """
    with _volumes():
        root = _mirror()
        judged = histories.find(root, commit).verdict
        if judged.outcome != "sound":
            raise WrongUse(
                f"commit {judged.commit} was not found sound: {judged.outcome}",
                "Pin one that `dag-sync history` calls sound.",
            )
        _show_pin(lives.pin(root, judged.commit, because))
        reports.renew(root)


@app.command(epilog=_reads(VolumeSettings))
def unpin() -> None:
    """Let `live` follow the newest sound push again, at once."""
    with _volumes():
        root = _mirror()
        typer.echo(f"live: {lives.unpin(root)}")
        reports.renew(root)


if __name__ == "__main__":
    app.run()
