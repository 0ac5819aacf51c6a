from __future__ import annotations

from typing import Any

import pytest

from harmattan.runs.end import End, Kind

OUTLETS = ["raw_hr", "raw_hr.staff"]
ROWS = {"rows": 3}


@pytest.mark.parametrize(
    ("kind", "assets", "changed"),
    [
        ("done", None, {"raw_hr": {}, "raw_hr.staff": {}}),
        ("passing", None, {}),
        ("done", {}, {}),
        ("lasting", {"raw_hr.staff": ROWS}, {"raw_hr.staff": ROWS}),
        ("done", {"raw_hr": ROWS, "raw_hr.pay": ROWS}, {"raw_hr": ROWS, "raw_hr.pay": ROWS}),
        ("done", {"raw_hr_2": ROWS, "raw_hr2.pay": ROWS, "marts": ROWS}, {}),
        ("done", {"raw_hr": "three"}, {"raw_hr": {}}),
        ("done", ["raw_hr"], {"raw_hr": {}, "raw_hr.staff": {}}),
    ],
)
def test_an_asset_changes_if_the_summary_names_it_among_the_outlets_or_below_one(
    kind: Kind, assets: Any, changed: dict[str, Any]
) -> None:
    summary = {} if assets is None else {"assets": assets}
    assert End(kind, summary=summary).changed(OUTLETS) == changed
