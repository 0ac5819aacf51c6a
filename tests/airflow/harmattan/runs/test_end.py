from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["assets", *OUTLETS]) | st.text(max_size=9), inner)
    ),
    max_leaves=10,
)
ENDS = st.fixed_dictionaries(
    {"kind": st.sampled_from(["done", "lasting", "passing"]) | ANYTHING},
    optional=dict.fromkeys(("message", "hint", "summary", "more"), ANYTHING),
)


@given(ANYTHING | ENDS)
def test_whatever_comes_as_an_end_is_one_or_is_refused(payload: Any) -> None:
    """And changes no asset that is none of the task's."""
    try:
        end = End.read(payload)
    except ValueError:
        return
    assert end.kind in ("done", "lasting", "passing")
    changed = end.changed(OUTLETS)
    assert all(name == "raw_hr" or name.startswith("raw_hr.") for name in changed)
    assert all(isinstance(extra, dict) for extra in changed.values())
