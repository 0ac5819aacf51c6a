"""TPC-H's lineitem, orders and customer, made by tpchgen-cli and loaded into the source."""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from psycopg import sql

from bench import measure
from frame.progress import step

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bench.clusters import Cluster, Clusters

LINEITEM_KEY = ("l_orderkey", "l_linenumber")
ORDERS_KEY = ("o_orderkey",)
_LOAD = 1800.0  # seconds; scale 1 takes about 40 on 2 cores

# The types of the TPC-H specification; updated_at is what incremental loads go by.
_LINEITEM: LiteralString = """
    CREATE TABLE {} (
      l_orderkey bigint NOT NULL, l_partkey bigint NOT NULL, l_suppkey bigint NOT NULL,
      l_linenumber integer NOT NULL, l_quantity numeric(15,2) NOT NULL,
      l_extendedprice numeric(15,2) NOT NULL, l_discount numeric(15,2) NOT NULL,
      l_tax numeric(15,2) NOT NULL, l_returnflag char(1) NOT NULL, l_linestatus char(1) NOT NULL,
      l_shipdate date NOT NULL, l_commitdate date NOT NULL, l_receiptdate date NOT NULL,
      l_shipinstruct char(25) NOT NULL, l_shipmode char(10) NOT NULL,
      l_comment varchar(44) NOT NULL)
"""
_ORDERS: LiteralString = """
    CREATE TABLE {} (
      o_orderkey bigint NOT NULL, o_custkey bigint NOT NULL, o_orderstatus char(1) NOT NULL,
      o_totalprice numeric(15,2) NOT NULL, o_orderdate date NOT NULL,
      o_orderpriority char(15) NOT NULL, o_clerk char(15) NOT NULL,
      o_shippriority integer NOT NULL, o_comment varchar(79) NOT NULL,
      updated_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""
_CUSTOMER: LiteralString = """
    CREATE TABLE {} (
      c_custkey bigint NOT NULL, c_name varchar(25) NOT NULL, c_address varchar(40) NOT NULL,
      c_nationkey integer NOT NULL, c_phone char(15) NOT NULL, c_acctbal numeric(15,2) NOT NULL,
      c_mktsegment char(10) NOT NULL, c_comment varchar(117) NOT NULL,
      updated_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""
TABLES = {"lineitem": _LINEITEM, "orders": _ORDERS, "customer": _CUSTOMER}
KEYS = {"lineitem": LINEITEM_KEY, "orders": ORDERS_KEY, "customer": ("c_custkey",)}


def create(kind: str, *name: str) -> sql.Composed:
    """Return the statement that makes an empty table of the shape ``kind``, without a key."""
    return sql.SQL(TABLES[kind]).format(sql.Identifier(*name))


def add_key(kind: str, *name: str) -> sql.Composed:
    """Return the statement that adds the primary key of ``kind`` to the table ``name``."""
    return sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(
        sql.Identifier(*name), sql.SQL(", ").join(map(sql.Identifier, KEYS[kind]))
    )


def load(clusters: Clusters, generator: Path, scale: float, log: Path, *names: str) -> None:
    """Fill the source's tables ``names`` with TPC-H rows at ``scale`` (1: 6 M of lineitem).

    ``generator`` is the program tpchgen-cli. A table that is there already stays.
    """
    source = clusters.source
    for name in names:
        if rows(source, "public", name) is not None:
            continue
        with step(f"load TPC-H {name} at scale {scale:g} into the source"):
            columns = sql.SQL(", ").join(map(sql.Identifier, _columns(name)))
            copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv, HEADER)").format(
                sql.Identifier(name), columns
            )
            source.execute(create(name, "public", name))
            measure.run(
                [
                    [str(generator), "csv", "-s", f"{scale:g}", "-T", name, "--stdout"],
                    source.psql(copy),
                ],
                environment=clusters.environment,
                log=log / f"load-{name}.log",
                timeout=_LOAD,
            )
            source.execute(add_key(name, "public", name))
            if name != "lineitem":
                source.execute(
                    sql.SQL("CREATE INDEX ON {} (updated_at)").format(sql.Identifier(name))
                )
            settle(source, "public", name)


def settle(cluster: Cluster, *name: str) -> None:
    """Do now what autovacuum and first readers would do in the middle of a timed run."""
    cluster.execute(sql.SQL("VACUUM (FREEZE, ANALYZE) {}").format(sql.Identifier(*name)))


def rows(cluster: Cluster, *name: str) -> int | None:
    """Return how many rows a table has, ``None`` where there is no such table."""
    written = sql.Identifier(*name).as_string()
    if cluster.row(sql.SQL("SELECT to_regclass({})").format(written))[0] is None:
        return None
    return int(cluster.row(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(*name)))[0])


def digest(cluster: Cluster, *name: str, columns: Sequence[str] = ()) -> tuple[int, int]:
    """Return the number of rows of a table and the sum of their hashes, in any order of rows.

    ``columns`` limits the hashes to those of which every tool keeps the text.
    """
    row: sql.Composable = sql.SQL("t")
    if columns:
        row = sql.SQL("ROW({})").format(sql.SQL(", ").join(map(sql.Identifier, columns)))
    count, total = cluster.row(
        sql.SQL(
            "SELECT count(*), coalesce(sum(hashtextextended({}::text, 0)), 0) FROM {} AS t"
        ).format(row, sql.Identifier(*name))
    )
    return int(count), int(total)


def keyed(cluster: Cluster, *name: str) -> bool:
    """Return whether a table has a primary key."""
    written = sql.Identifier(*name).as_string()
    found = cluster.row(
        sql.SQL(
            "SELECT count(*) FROM pg_index WHERE indrelid = to_regclass({}) AND indisprimary"
        ).format(written)
    )
    return bool(found[0])


def types(cluster: Cluster, *name: str) -> dict[str, str]:
    """Return the type of each column of a table, by name."""
    with cluster.connect() as connection:
        return dict(
            connection.execute(
                "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute"
                " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
                [sql.Identifier(*name).as_string()],
            ).fetchall()
        )


def _columns(name: str) -> list[str]:
    """Return the columns that the generator fills, in its order."""
    words = [part.split() for part in TABLES[name].partition("(")[2].split(",")]
    return [part[0] for part in words if part and part[0].startswith(f"{name[0]}_")]
