"""``dag-sync check``: what the gate would say of a folder, at a desk and in CI.

What git would push - files that are tracked, and those that are new and not ignored - becomes a
commit of a repository of its own, and from there on all is as in the gate: its limits, its
checkout, its parts. They run as the user who asks, side by side: it is a tree that one trusts.
"""

from __future__ import annotations

import logging
import os
import subprocess
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from delivery import candidate, checkout, gate, limits
from delivery.gate import Conclusion, Place
from delivery.limits import Entry
from delivery.sandbox import Sandbox
from frame.failure import Failure, WrongUse
from frame.git import init_bare
from frame.output import screen
from frame.progress import step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from delivery.settings import CheckSettings
    from delivery.verdict import Finding

SECONDS = 60  # for git to list a folder and to keep its files
_WHO = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "check"), ("EMAIL", "check@localhost"), ("DATE", "@0 +0000"))
}
_CONFIGS = ("airflow.cfg", "../config/airflow.cfg")  # of a wheel, of a checkout


@dataclass(frozen=True)
class Checked:
    """What is known of a folder; ``files`` are looked at, ``seconds`` taken."""

    conclusion: Conclusion
    files: int
    seconds: float


def check(settings: CheckSettings, folder: Path, *, without_models: bool) -> Checked:
    """Look at ``folder`` as the gate would at a push of it; nothing in it is written.

    Raises WrongUse if it is in no git repository, or there is no dbt to read its models with;
    Failure if nothing can be said.
    """
    began = time.monotonic()
    # What passes is said once, at the end.
    logging.getLogger("delivery").setLevel(logging.WARNING)
    names = _would_push(folder)
    with TemporaryDirectory(prefix="dag-sync-check-") as place:
        tree = Path(place).resolve() / "tree"
        with _unlocked(tree):
            against = _lay_out(settings, folder, names, tree)
            if against:
                conclusion = Conclusion(against, [], [])
            else:
                conclusion = _look(settings, tree, without_models=without_models)
    return Checked(conclusion, len(names), time.monotonic() - began)


@contextmanager
def _unlocked(tree: Path) -> Iterator[None]:
    """Remove the read-only ``tree`` at the end."""
    try:
        yield
    finally:
        candidate.remove(tree)


def _would_push(folder: Path) -> list[bytes]:
    """Return the paths in ``folder`` that git tracks or would add; its ignore files are asked."""
    words = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        # Their own git, with their settings: what they ignore everywhere is not pushed.
        listed = subprocess.run(
            ["git", "-C", folder, *words], capture_output=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(
            f"git took longer than {SECONDS} s to list {folder}",
            "See that large folders of yours that are not to be pushed are in .gitignore.",
        ) from error
    if listed.returncode:
        said = listed.stderr.decode(errors="replace").strip().removeprefix("fatal: ")
        raise WrongUse(
            f"{folder} cannot be listed as git would push it: {said}",
            "See git's own words above; what is no repository yet becomes one by: git init",
        )
    names = {path.rstrip(b"/") for path in listed.stdout.split(b"\0") if path}
    here = os.fsencode(folder)
    return sorted(path for path in names if os.path.lexists(os.path.join(here, path)))


def _lay_out(
    settings: CheckSettings, folder: Path, names: list[bytes], tree: Path
) -> list[Finding]:
    """Make ``tree`` what a push would check out; return what is against that."""
    if findings := _too_much(settings, folder, names):
        return findings
    git = init_bare(tree.parent / "repo.git")
    index = {"GIT_INDEX_FILE": str(tree.parent / "index")}
    git.run(
        f"--work-tree={folder}", "update-index", "-z", "--add", "--stdin",
        stdin=b"".join(name + b"\0" for name in names), environ=index, seconds=SECONDS,
        most=2 * settings.max_bytes,
    )  # fmt: skip
    made = git.run("write-tree", environ=index).decode().strip()
    commit = git.run("commit-tree", made, "-m", "check", environ=_WHO).decode().strip()
    _, findings = checkout.entries_within(settings, git, commit)
    return findings or checkout.export(git, commit, tree)


def _too_much(settings: CheckSettings, folder: Path, names: list[bytes]) -> list[Finding]:
    """Return what is against so many files, or such large ones, before git reads them."""
    here = os.fsencode(folder)
    found = [Entry("100644", "", os.lstat(os.path.join(here, n)).st_size, n) for n in names]
    if len(found) <= settings.max_files and sum(e.size for e in found) <= settings.max_bytes:
        return []
    return limits.check(found, {}, max_files=settings.max_files, max_bytes=settings.max_bytes)


def _look(settings: CheckSettings, tree: Path, *, without_models: bool) -> Conclusion:
    parts = dict(gate.PARTS)
    if without_models or not (tree / gate.PROJECT).is_file():
        del parts["models"]
    elif settings.dbt is None:
        raise WrongUse(
            "there is no dbt, so the models cannot be read",
            "Run `make setup`, which brings it, or name one of the platform's version in "
            "HARMATTAN_DBT; --without-models leaves them to the gate.",
        )
    sandbox = Sandbox(None, gate.bounds(settings))
    dbt = settings.dbt or Path("dbt")
    # A laptop's own settings of Airflow take no part.
    place = Place(settings, sandbox, tree, dbt, {"AIRFLOW_CONFIG": _config()})
    # Processes, as a sandbox starts its child from one that has no threads.
    with ProcessPoolExecutor(len(parts), mp_context=get_context("fork")) as pool:
        looks = {pool.submit(look, place): part for part, look in parts.items()}
        with step(f"read {', '.join(parts)}") as note:
            left = list(parts)
            for done in as_completed(looks):
                left.remove(looks[done])
                note(f"{', '.join(left)} left")
    return gate.conclude(tree, [each.result() for each in looks])


def _config() -> str:
    """Return the platform's airflow.cfg: by its defaults the gate reads DAGs."""
    here = Path(__file__).resolve().parent
    return str(next(path for name in _CONFIGS if (path := (here / name).resolve()).exists()))


def show(checked: Checked, *, without_models: bool) -> None:
    """Print what was found for people."""
    console = screen()
    for line in (line for each in checked.conclusion.findings for line in each.lines()):
        console.print(line, markup=False, soft_wrap=True)
    for each in checked.conclusion.used:
        where = f"{each.file}:{each.line}"
        console.print(f"{where}: departs from {each.rule} because {each.because}", markup=False)
    if without_models:
        console.print("the models were not read: the gate will")
    outcome = gate.OUTCOMES[checked.conclusion.code]
    console.print(f"{outcome}: {checked.files} files in {checked.seconds:.1f} s")
