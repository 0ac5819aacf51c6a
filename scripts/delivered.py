"""What the gate has delivered, and when it last looked."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from backup.proof.report import human_age
from scripts.row import Row

if TYPE_CHECKING:
    from scripts.access import Access

SYNCED = timedelta(minutes=10)  # dag-sync looks every five
SYNC = "dag-sync"


def live(platform: Access, bundle: str) -> tuple[str, str]:
    """Return the commit that ``bundle`` has live, and git's words; "" for what there is not."""
    url = f"{platform.values['DAG_MIRROR_URL']}/{bundle}.git"
    answer = subprocess.run(
        ["git", "ls-remote", url, "refs/heads/live"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    return answer.stdout.split("\t")[0], answer.stderr.strip()


def delivery(platform: Access) -> list[Row]:
    """Return the commit that each bundle of the mirror has live, and when the gate last looked."""
    rows = [_synced(platform)]
    for bundle in ("pipelines", "analysts"):
        commit, said = live(platform, bundle)
        rows.append(Row(bundle, commit[:12] or said, well=bool(commit)))
    return rows


def _synced(platform: Access) -> Row:
    """Return the age of the newest launch of dag-sync that ended well, whatever its verdict."""
    launches = platform.nomad.jobs.get_jobs(prefix=f"{SYNC}/periodic-")
    ended = [
        each["SubmitTime"] / 1e9
        for each in launches
        if each["Status"] == "dead"
        and any(group["Complete"] for group in each["JobSummary"]["Summary"].values())
    ]
    if not ended:
        return Row(SYNC, "no sync is known that ended well", well=False)
    age = datetime.now(UTC).timestamp() - max(ended)
    state = f"last good sync {human_age(age)} ago"
    return Row(SYNC, state, age < SYNCED.total_seconds(), {"age_seconds": age})
