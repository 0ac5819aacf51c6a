"""tap-postgres into target-postgres, as Meltano starts them: a pipe of two Singer programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from bench import measure

if TYPE_CHECKING:
    from pathlib import Path

    from bench.clusters import Cluster
    from bench.race import Setting

_DISCOVERY = 300.0  # seconds
_BATCH = 100_000  # rows, ten times the target's default: fewer COPYs and merges


def environment(source: Cluster, warehouse: Cluster) -> dict[str, str]:
    """Return the variables by which the two programs log in."""
    return {
        f"{prefix}_POSTGRES_{name}": value
        for prefix, cluster in (("TAP", source), ("TARGET", warehouse))
        for name, value in (
            ("HOST", "127.0.0.1"),
            ("PORT", str(cluster.port)),
            ("USER", "postgres"),
            ("PASSWORD", cluster.password),
            ("DATABASE", "bench"),
        )
    }


def pipe(tap: Path, target: Path, setting: Setting, table: str, schema: str) -> measure.Pipe:
    """Return the pipe that copies ``table``; the catalogue is made here, outside the timing."""
    home = setting.home / "singer"
    home.mkdir(exist_ok=True)
    configuration = {
        "tap": {"filter_schemas": ["public"]},
        "target": {
            "default_target_schema": schema,
            "use_copy": True,
            "add_record_metadata": False,
            "batch_size_rows": _BATCH,
            "validate_records": False,
            "activate_version": False,
        },
    }
    for name, settings in configuration.items():
        (home / f"{name}.json").write_text(json.dumps(settings))
    read = [str(tap / "bin" / "tap-postgres"), "--config=ENV", "--config", str(home / "tap.json")]
    write = [str(target / "bin" / "target-postgres"), "--config=ENV"]
    catalogue = home / "catalogue.json"
    discovered = home / "discovered.json"
    measure.run(
        [[*read, "--discover"]],
        environment=environment(setting.clusters.source, setting.clusters.warehouse),
        log=setting.logs / "singer-discovery.log",
        output=discovered,
        timeout=_DISCOVERY,
        cwd=home,
    )
    catalogue.write_text(_chosen(discovered.read_text(), table))
    return [
        [*read, "--catalog", str(catalogue)],
        [*write, "--config", str(home / "target.json")],
    ]


def _chosen(discovered: str, table: str) -> str:
    """Return the catalogue with ``table`` alone, chosen and loaded whole."""
    streams = [
        stream
        for stream in json.loads(discovered)["streams"]
        if stream["tap_stream_id"] == f"public-{table}"
    ]
    for stream in streams:
        stream["replication_method"] = "FULL_TABLE"
        for entry in stream["metadata"]:
            if not entry["breadcrumb"]:
                entry["metadata"]["selected"] = True
    return json.dumps({"streams": streams})
