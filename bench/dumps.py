"""A backup into B2 on loopback, beside the bare pipeline and beside what scripts usually do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import backups
from bench.clusters import DATABASE
from bench.figures import Section, Target, find, ratio
from bench.race import Contender, load_now, race
from frame.failure import Failure

if TYPE_CHECKING:
    from bench.backups import House
    from bench.measure import Pipe
    from bench.race import Setting

BARE = "pipeline"
_COUNTS, _DIGESTS = 0.95, 1.33  # of the time; a digest of each row at 0.75 of the speed
_ABOUT = (
    "A database of mixed data (TPC-H lineitem, JSON documents, incompressible files, text, 200"
    " small tables) dumped, compressed, encrypted to two keys and uploaded to a B2 endpoint on the"
    " same machine, beside the same programs by hand that write to nowhere."
)


def measure(setting: Setting) -> Section:
    """Race ``backup run`` against pipelines of the shell."""
    backups.fill(setting)
    bytes_of_it = backups.size(setting.clusters.source)
    with backups.house(setting) as house:
        load = load_now()
        figures = race(
            [
                _ours(house, "backup", "backup run, rows digested", "digests", bytes_of_it),
                _ours(house, "backup-counts", "backup run, rows counted", "counts", bytes_of_it),
                _by_hand(
                    setting, house, BARE, "pg_dump | zstd -T0 | gpg, to nowhere", bytes_of_it,
                    ["--format=custom", "--compress=0"], ["zstd", "-q", "-T0", "-c"],
                ),
                _by_hand(
                    setting, house, "script", "pg_dump | gzip | gpg, to nowhere", bytes_of_it,
                    [], ["gzip", "-c"],
                ),
            ],
            setting,
        )  # fmt: skip
    bare = find(figures, BARE)
    slower = ratio(bare, find(figures, "backup"))
    return Section(
        "dump", "Backup", _ABOUT, figures,
        [
            Target(
                "rows counted: speed over the bare pipeline's", _COUNTS,
                ratio(find(figures, "backup-counts"), bare),
            ),
            Target("rows digested: time over the bare pipeline's", _DIGESTS, slower, at_most=True),
        ],
        load, subject="backup", counted="bytes",
    )  # fmt: skip


def _ours(house: House, name: str, title: str, proof: str, size: int) -> Contender:
    def check() -> dict[str, Any]:
        bucket = house.endpoint.api().get_bucket_by_name(house.bucket)
        found = {version.file_name: version.size for version, _ in bucket.ls(recursive=True)}
        (stored,) = [size for name, size in found.items() if name.endswith(".dump.zst.gpg")]
        if not any(name.endswith(".manifest.json.gpg") for name in found):
            raise Failure("the backup has no manifest", "Report this.")
        return {"stored_bytes": stored}

    return Contender(
        name=name,
        title=title,
        rows=size,
        pipe=lambda: [backups.command("run", backups.NAME)],
        prepare=house.forget,
        check=check,
        environment=house.environments[proof],
    )


def _by_hand(
    setting: Setting,
    house: House,
    name: str,
    title: str,
    size: int,
    options: list[str],
    compress: list[str],
) -> Contender:
    source = setting.clusters.source

    def pipe() -> Pipe:
        dump = [f"{backups.PG_BIN}/pg_dump", *options, "-h", "127.0.0.1", "-p", str(source.port),
                "-U", "postgres", "-d", DATABASE]  # fmt: skip
        gpg = ["sh", "-c", '"$@" > /dev/null', "sh", *house.gpg()]
        return [dump, compress, gpg]

    return Contender(name=name, title=title, rows=size, pipe=pipe)
