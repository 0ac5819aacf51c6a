"""The command ``dashboards`` and its verbs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dashboards import files, importing, mirror, record
from dashboards import migrate as migration
from dashboards.check import check as check_tree
from dashboards.decide import Act
from dashboards.layout import DATABASE
from dashboards.normal import normal
from dashboards.settings import Settings
from frame.application import Application, definitions, epilog, exit_codes
from frame.failure import Failure, WrongUse
from frame.output import screen

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dashboards.layout import Asset

CONFLICT = 3  # the exit code
PATIENCE = 10  # seconds for a database that lets nobody in: the next round tries again
LIVE = "live"  # the record of the commit that was delivered last

app = Application(
    "dashboards",
    help="Superset's database, roles and connection, and dashboards from files.",
    epilog=epilog(
        definitions("Settings, from the environment", Settings.explained()),
        exit_codes({CONFLICT: "import, deliver: somebody changed one by hand, and it was left"}),
    ),
)
out = screen()

Root = Annotated[Path, typer.Argument(metavar="FOLDER", help="A copy of the analysts' repository.")]
Overwrite = Annotated[
    list[str] | None,
    typer.Option(help="Replace what was changed by hand: a dashboard, chart or dataset by name."),
]


def _settings() -> Settings:
    return Settings.from_environment(os.environ)


@app.command()
def migrate() -> None:
    """Bring Superset's database to this version.

    Its roles, its administrator and its connection to the warehouse as well.
    """
    migration.migrate(_settings())


@app.command()
def wait() -> None:
    """Wait until the database is at this version.

    15 minutes at most.
    """
    migration.wait(_settings(), migration.image_version())


@app.command()
def check(folder: Root = Path()) -> None:
    """Check dashboards in files, without Superset.

    They are held against each other and against the marts that models/marts describes.
    """
    findings = check_tree(files.read_folder(folder))
    for problem in findings.problems:
        typer.echo(problem, err=True)
    if findings.problems:
        raise Failure(
            f"{len(findings.problems)} faults in the dashboards of {folder}",
            "Mend each line above.",
        )
    out.print(f"{len(findings.assets)} files of datasets, charts and dashboards are sound")


@app.command("import")
def import_(folder: Root, overwrite: Overwrite = None) -> None:
    """Bring dashboards from files into Superset.

    What somebody changed in Superset is left, and named.
    """
    settings = _settings()
    assets = importing.sound(files.read_folder(folder))
    with record.opened(settings.read_metadata_uri(), patience=PATIENCE) as known:
        _bring_in(assets, known, overwrite or ())


@app.command()
def export(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[TITLE]...", help="Dashboards; all if none.")
    ] = None,
    to: Annotated[Path, typer.Option(help="A copy of the analysts' repository to write to.")] = (
        Path()
    ),
) -> None:
    """Write dashboards that were made by hand into files."""
    from dashboards.application import superset

    if not to.is_dir():
        raise WrongUse(f"{to} is no folder", "Name a copy of the analysts' repository.")
    with superset():
        from dashboards.contents import find_dashboards

        assets = find_dashboards(names or ())
    written = {files.METADATA: files.metadata()}
    for asset in assets:
        path = files.file_name(asset, DATABASE)
        if path in written:
            raise Failure(
                f"two of the names of the {asset.kind} make the same file {path}",
                "Rename one in Superset.",
            )
        written[path] = files.dump(normal(asset))
    for path, text in written.items():
        target = to / files.FOLDER / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        out.print(str(target))


@app.command()
def deliver(overwrite: Overwrite = None) -> None:
    """Import the analysts' live commit, if it moved.

    It is read from the DAG mirror.
    """
    settings = _settings()
    if not settings.mirror:
        raise WrongUse("DASHBOARDS_MIRROR is not set", "Set it in the job's env block.")
    migration.wait(settings, migration.image_version())
    commit = mirror.live(settings.mirror, settings.git_config)
    with record.opened(settings.read_metadata_uri(), patience=PATIENCE) as known:
        if known.get(LIVE) == commit and not overwrite:
            out.print(f"{commit[:12]} is delivered already")
            return
        tree = mirror.fetch(settings.mirror, commit, settings.git_config)
        assets = importing.sound(tree)
        if assets:
            _bring_in(assets, known, overwrite or ())
        known.put(LIVE, commit)
        out.print(f"{commit[:12]}: {len(assets)} datasets, charts and dashboards")


def _bring_in(assets: Sequence[Asset], known: record.Record, overwrite: Collection[str]) -> None:
    importing.known_names(assets, overwrite)
    from dashboards.application import superset

    known.lock()
    with superset():
        done = importing.bring_in(assets, known, overwrite)
    for each in done:
        out.print(f"{each.asset}: {each.act.value}", markup=False)
    if conflicts := [str(each.asset) for each in done if each.act is Act.CONFLICT]:
        raise Failure(
            f"changed in Superset by hand and in the files, and left: {', '.join(conflicts)}",
            "Export what was made by hand into the files, or give --overwrite and its name.",
            CONFLICT,
        )


if __name__ == "__main__":
    app.run()
