"""Brings dashboards from files into Superset, and leaves what somebody changed there by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dashboards.check import check
from dashboards.decide import Act, Last, decide
from dashboards.layout import KINDS, Asset
from dashboards.normal import digest
from frame.failure import Failure, WrongUse

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from dashboards.files import Tree
    from dashboards.record import Record


@dataclass(frozen=True)
class Done:
    """An asset of the files and what was done with it."""

    asset: Asset
    act: Act


def sound(tree: Tree) -> list[Asset]:
    """Return the assets of ``tree``. Raises :class:`Failure` that names all that is wrong."""
    findings = check(tree)
    if findings.problems:
        raise Failure(
            "the dashboards cannot be used:\n" + "\n".join(f"  - {p}" for p in findings.problems),
            "Mend each line above; `dashboards check` says the same on your machine.",
        )
    return findings.assets


def known_names(assets: Sequence[Asset], names: Collection[str]) -> None:
    """Raise :class:`WrongUse` for a name or uuid that no file has."""
    there = {each for asset in assets for each in (asset.name, asset.uuid)}
    if strangers := sorted(set(names) - there):
        raise WrongUse(
            f"no file is of {', '.join(map(repr, strangers))}",
            "Give the name of a dashboard, chart or dataset as the files say it.",
        )


def bring_in(assets: Sequence[Asset], record: Record, overwrite: Collection[str]) -> list[Done]:
    """Write what is to be written and remember it, in one transaction; the lock must be held.

    Runs inside :func:`dashboards.application.superset`. Raises :class:`Failure` that names the
    asset; nothing is changed then.
    """
    from dashboards import contents

    done = []
    with contents.transaction():
        for asset in sorted(assets, key=lambda each: (KINDS.index(each.kind), each.name)):
            there = contents.find(asset.kind, asset.uuid)
            act = decide(
                file=digest(asset),
                there=None if there is None else digest(there),
                last=_last(record, asset),
                overwrite=not {asset.name, asset.uuid}.isdisjoint(overwrite),
            )
            if act in (Act.CREATE, Act.UPDATE):
                contents.write(asset)
            done.append(Done(asset, act))
        contents.forget()
        for each in done:
            if each.act in (Act.CREATE, Act.UPDATE, Act.ADOPT):
                there = contents.find(each.asset.kind, each.asset.uuid)
                if there is not None:
                    last = {"file": digest(each.asset), "there": digest(there)}
                    contents.put(_key(each.asset), json.dumps(last))
    return done


def _last(record: Record, asset: Asset) -> Last | None:
    text = record.get(_key(asset))
    return Last(**json.loads(text)) if text else None


def _key(asset: Asset) -> str:
    return f"asset:{asset.uuid.lower()}"
