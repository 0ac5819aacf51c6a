"""A source that holds every type PostgreSQL has, values at their extremes, and the oddest names.

Every table of schema ``public`` has a key ``id`` and a cursor ``stamp``; those of ``odd`` need not.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

LONG = "ɛ" * 31  # 62 bytes; one more letter would be cut
LONGEST = LONG + "x"
LONGEST_TYPE = "漢" * 21
FIRST_58 = "a" * 58  # what PostgreSQL keeps of a long name for the name of its key's index
TRICKY = 'a "b" %s {c} \n;--'

TYPES = (
    "CREATE EXTENSION citext",
    "CREATE EXTENSION hstore",
    "CREATE EXTENSION ltree",
    "CREATE EXTENSION cube",
    "CREATE EXTENSION isn",
    "CREATE EXTENSION seg",
    "CREATE EXTENSION lo",
    "CREATE EXTENSION intarray",
    r"""CREATE TYPE mood AS ENUM ('sad', 'so-so', 'o''kay \ "fine", {x}', 'NULL', ' ', '')""",
    f"""CREATE TYPE "{LONGEST_TYPE}" AS ENUM ('{LONGEST}')""",
    """CREATE TYPE "Type ""of"" %s {x}" AS ENUM ('a')""",
    "CREATE TYPE pair AS (a int, b text)",
    'CREATE TYPE nested AS (one pair, many pair[], mood mood, "odd ""name"" %s" numeric(5, 2),'
    " class regclass)",
    "CREATE TYPE nothing AS ()",
    "CREATE TYPE shrunk AS (a int, b int, c text)",
    "ALTER TYPE shrunk DROP ATTRIBUTE b",
    "CREATE DOMAIN grade AS numeric(4, 1) CHECK (VALUE >= 0)",
    "CREATE DOMAIN top_grade AS grade CHECK (VALUE >= 5)",
    "CREATE DOMAIN grid AS int[]",
    "CREATE DOMAIN moods AS mood[]",
    "CREATE DOMAIN feeling AS mood DEFAULT 'sad'",
    "CREATE DOMAIN required AS mood NOT NULL DEFAULT 'sad'",
    "CREATE DOMAIN couple AS pair",
    "CREATE DOMAIN page AS xml",
    "CREATE DOMAIN address AS citext",
    "CREATE DOMAIN code AS varchar(3)",
    "CREATE DOMAIN padded AS char(3)",
    "CREATE DOMAIN relation AS regclass",
    "CREATE TYPE floats AS RANGE (subtype = float8)",
    "CREATE TYPE words AS RANGE (subtype = text, multirange_type_name = many_words)",
    "CREATE TYPE grades AS RANGE (subtype = grade)",
    "CREATE TYPE feelings AS RANGE (subtype = mood)",
    "CREATE DOMAIN span AS floats",
    "CREATE TABLE public.row_type (id int PRIMARY KEY, stamp timestamptz NOT NULL DEFAULT"
    " '2026-01-01', name text, gone int, tags text[])",
    "ALTER TABLE public.row_type DROP COLUMN gone",
    "INSERT INTO public.row_type SELECT n, '2026-01-01', 'name ' || n, '{a,NULL}'"
    " FROM generate_series(1, 4) n",
    'CREATE SCHEMA "Other schema"',
    """CREATE TYPE "Other schema".mood AS ENUM ('another', 'list')""",
    'CREATE TYPE "Other schema".pair AS (x date, y date[])',
    'CREATE DOMAIN "Other schema".grade AS text',
    'CREATE TYPE "Other schema".floats AS RANGE (subtype = numeric)',
    # The names of things in the way of a type's or a table's second, hidden one.
    "CREATE TYPE ghost AS ENUM ('boo')",
)

# Table: the type of each column: its values. A row takes the next value of each, or NULL.
BINARY: dict[str, dict[str, tuple[str, ...]]] = {
    "numbers": {
        "smallint": ("-32768", "32767"),
        "int": ("-2147483648", "2147483647"),
        "bigint": ("-9223372036854775808", "9223372036854775807"),
        "numeric": (
            "NaN", "Infinity", "-Infinity", "9" * 131072 + "." + "9" * 16383, "0." + "0" * 16382
            + "1", "-0.00", "1.50", "1E+400", "12345678901234567890123456789012345678901234567.8",
        ),
        "numeric(1000, 0)": ("9" * 1000, "-1"),
        "numeric(20, 5)": ("1.5", "NaN", "-99999999999999.99999"),
        "numeric(3, -3)": ("123456", "NaN"),
        "numeric(3, 5)": ("0.00999",),
        "real": ("NaN", "infinity", "-infinity", "-0", "1e-45", "3.4028235e38", "0.1"),
        "float8": ("NaN", "infinity", "-infinity", "-0", "5e-324", "1.7976931348623157e308",
                   "0.1", "0.30000000000000004"),
        "money": ("-92233720368547758.08", "92233720368547758.07", "0.01"),
        "oid": ("4294967295", "0"),
    },
    "texts": {
        "text": ("", "\\N", "\\.", "NULL", " ", "tab\tnl\ncr\rcrlf\r\nback\\slash\x01\x7f\b\f\v",
                 "ɛ 漢 🎓 é e\u0301 \ufeff\u200f\U0010ffff", "x" * 300_000, "{}", '"', "'"),
        "varchar(3)": ("abc", "", "漢漢漢"),
        "varchar": ("  spaces  ",),
        "char(5)": ("ab", "", "abcde"),
        "bpchar": ("ab  ", ""),
        "char": ("x", ""),
        '"char"': ("x", "", "\\377"),
        "name": ("x" * 63, "", "ɛ" * 31),
        "bytea": ("\\x00ff5c0a", "", "\\x" + "5c2e" * 70_000),
        "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
        "boolean": ("true", "false"),
        "bit": ("1", "0"),
        "bit(3)": ("101",),
        "varbit": ("", "1" * 1001),
        "varbit(5)": ("10101", ""),
    },
    "times": {
        "date": ("infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-12-31 BC",
                 "2024-02-29"),
        "time": ("24:00", "00:00", "23:59:59.999999"),
        "time(0)": ("12:34:56",),
        "time(3)": ("23:59:59.999",),
        "timetz": ("24:00+15:59", "00:00-15:59:59", "12:00:00.5+05:30"),
        "timetz(0)": ("24:00-15:59",),
        "timestamp": ("infinity", "-infinity", "4713-01-01 00:00:00 BC",
                      "294276-12-31 23:59:59.999999", "0001-01-01 00:00:00.000001"),
        "timestamp(0)": ("2026-10-25 02:30:00",),
        "timestamptz": ("infinity", "-infinity", "4714-11-24 00:00:00+00 BC",
                        "294276-12-31 23:59:59.999999+00", "1883-11-18 12:03:57-04:56:02"),
        "timestamptz(3)": ("2026-01-01 00:00:00.123+00",),
        "interval": ("178000000 years", "-178000000 years", "-1 mons +2 days -03:04:05.678901",
                     "0", "-00:00:00.000001", "2147483647 days", "1 day -24:00"),
        "interval year to month": ("7 years 3 months",),
        "interval second(2)": ("59.99",),
        "interval day to second(0)": ("2 days 3:04:05",),
        "interval(1)": ("1 year 0.1 seconds",),
    },
    "documents": {
        "json": (' {"b":1, "a" : [1,  2], "b": 2}\n', "null", '"\\u00e9 \\\\"', "1E400"),
        "jsonb": ('{"b": 1, "a": [1.50, 1e2, "\\\\", null]}', "null", "[]", '""'),
        "jsonpath": ("$.a[*] ? (@ > 1)", 'strict $."a b"'),
        "tsvector": ("a:1 b:2A,3B 'c d':16383", "", "'\\\\' ''''"),
        "tsquery": ("a & !b | c:*AB <3> d", ""),
    },
    "addresses": {
        "inet": ("10.0.0.1/8", "::ffff:1.2.3.4", "0.0.0.0/0", "::1", "fe80::/10"),
        "cidr": ("10.0.0.0/8", "::/0", "255.255.255.255/32"),
        "macaddr": ("08:00:2b:01:02:03",),
        "macaddr8": ("08:00:2b:01:02:03:04:05",),
    },
    "shapes": {
        "point": ("(1,2)", "(NaN,infinity)", "(-0,1e-300)", "(0.1,0.2)"),
        "line": ("{1,-1,0}", "{0,-1,0.1}"),
        "lseg": ("[(0,0),(1,1)]",),
        "box": ("((0,0),(1,1))",),
        "path": ("[(0,0),(1,1)]", "((0,0),(1,1),(2,0))"),
        "polygon": ("((0,0),(1,1),(2,0))", "((0.1,0.2))"),
        "circle": ("<(0.1,0.2),3>", "<(0,0),0>"),
    },
    "ranges": {
        "int4range": ("empty", "(,)", "[1,3)", "(,2147483647)"),
        "int8range": ("[-9223372036854775808,9223372036854775807)",),
        "numrange": ("[1.50,NaN]", "(-infinity,infinity)", "(,)"),
        "daterange": ("[infinity,infinity]", "[4713-01-01 BC,)"),
        "tsrange": ("[2026-01-01,infinity)",),
        "tstzrange": ("(-infinity,2026-01-01 00:00:00.000001+00]",),
        "int4multirange": ("{}", "{[1,3),[5,7)}", "{(,)}"),
        "int8multirange": ("{}",),
        "nummultirange": ("{[1.0,2.00],(3,)}",),
        "datemultirange": ("{[2026-01-01,infinity)}",),
        "tsmultirange": ("{}",),
        "tstzmultirange": ("{(,2026-01-01 00:00:00+00)}",),
    },
    "enums": {
        "mood": ("sad", 'o\'kay \\ "fine", {x}', "NULL", " ", ""),
        "feeling": ("so-so", "sad"),
        f'"{LONGEST_TYPE}"': (LONGEST,),
        '"Type ""of"" %s {x}"': ("a",),
        '"Other schema".mood': ("another", "list"),
    },
    "domains": {
        "grade": ("7.5", "0"),
        "top_grade": ("9.9",),
        "code": ("abc", ""),
        "padded": ("a", ""),
        "grid": ("{{1,2},{3,NULL}}", "[0:1]={1,2}", "{}"),
        '"Other schema".grade': ("text here",),
        "information_schema.cardinal_number": ("1",),
        "information_schema.sql_identifier": ("x",),
    },
    "internals": {
        "pg_lsn": ("16/B374D848", "0/0", "FFFFFFFF/FFFFFFFF"),
        "pg_snapshot": ("10:20:10,14,15", "1:1:"),
        "txid_snapshot": ("10:20:10,14,15",),
        "xid": ("4294967295", "0"),
        "xid8": ("18446744073709551615",),
        "cid": ("4294967295",),
        "tid": ("(4294967295,65535)", "(0,1)"),
        "refcursor": ("portal",),
    },
    "arrays": {
        "int[]": ("{}", "{NULL}", "{1,NULL,3}", "[-2:0]={1,2,3}", "[5:5][-1:0]={{1,2}}",
                  "{{{1},{2}},{{3},{4}}}"),
        "text[][]": ('{{"a","NULL"},{"c,d",NULL}}', '{"\\"","\\\\"," ","","{}"}'),
        "numeric(10, 2)[]": ("{1.5,NaN,NULL}",),
        "varchar(3)[]": ("{abc,NULL}",),
        "char(3)[]": ("{a,NULL}",),
        "bytea[]": ('{"\\\\x00ff",NULL,""}',),
        "timestamptz(0)[]": ("{infinity,NULL,2026-01-01 00:00:00+00}",),
        "interval day to second(1)[]": ("{1 day 0.1 seconds}",),
        "bit(3)[]": ("{101,NULL}",),
        '"char"[]': ("{x,NULL}",),
        "name[]": ("{x,NULL}",),
        "json[]": ('{"{\\"a\\" : 1}",NULL}',),
        "box[]": ("{((0,0),(1,1));((2,2),(3,3))}",),
        "point[]": ('{"(1,2)",NULL}',),
        "numrange[]": ('{"[1.5,2)",empty,NULL}',),
        "nummultirange[]": ('{"{[1.5,2)}",NULL}',),
        "pg_lsn[]": ("{0/1,NULL}",),
        "money[]": ("{1.5,NULL}",),
        "boolean[]": ("{t,f,NULL}",),
        "uuid[]": ("{00000000-0000-0000-0000-000000000000}",),
        "tsvector[]": ("{a:1,NULL}",),
        "oid[]": ("{1}",),
    },
    "local_names": {
        "regclass": ("pg_class", "public.row_type", "0", "4000000000"),
        "regtype": ("int", "mood", "int[]"),
        "regproc": ("now", "0"),
        "regprocedure": ("sqrt(float8)",),
        "regoper": ("||/",),
        "regoperator": ("+(int,int)",),
        "regrole": ("ingest_reader", "postgres"),
        "regnamespace": ("public", '"Other schema"'),
        "regconfig": ("english",),
        "regdictionary": ("simple",),
        "regcollation": ('"C"',),
        "aclitem": ("postgres=r/postgres", "=r/ingest_reader"),
        "regclass[]": ('{pg_class,NULL,"public.row_type"}',),
        "aclitem[]": ("{postgres=r*w/postgres}",),
        "relation": ("pg_class",),
    },
}  # fmt: skip
TEXTUAL: dict[str, dict[str, tuple[str, ...]]] = {
    "pages": {
        "xml": ('<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>', "<a/>", "just text",
                "", '<?xml version="1.1" standalone="yes"?><a/>', "<!DOCTYPE a><a>&lt;</a>",
                " <a\n/>\n"),
        "xml[]": ('{"<?xml version=\\"1.0\\" encoding=\\"UTF-8\\"?><a/>",<b/>,NULL}',),
        "page": ('<?xml version="1.0" encoding="ISO-8859-1"?><a/>', "<b/>"),
        "page[]": ('{"<?xml version=\\"1.0\\" encoding=\\"ISO-8859-1\\"?><a/>",NULL}',),
    },
    "vectors": {
        "int2vector": ("", "1 2 -3"),
        "oidvector": ("", "1 4294967295"),
        "int2vector[]": ('{"1 2",NULL}',),
        "oidvector[]": ('{"1 2",""}',),
    },
    "extended": {
        "citext": ("Ci", "", "É\t\\"),
        "citext[]": ("{A,b,NULL}",),
        "address": ("Me@Example.org",),
        "address[]": ("{A,NULL}",),
        "hstore": ("a=>1, b=>NULL, \"c d\"=>\"x\\\"y\"", ""),
        "hstore[]": ('{"a=>1",NULL}',),
        "ltree": ("Top.Science.Astronomy", ""),
        "lquery": ("Top.*{1,2}.!a",),
        "ltree[]": ("{a.b,NULL}",),
        "cube": ("(1,2),(3,4)", "(0.1)"),
        "seg": ("1.50 .. 2", "~6.5", "< 3"),
        "isbn": ("978-0-393-04002-9",),
        "ean13": ("0220356483481",),
        "query_int": ("1&(2|3)",),
        "lo": ("1", "4294967295"),
        "lo[]": ("{1,NULL}",),
    },
    "made": {
        "pair": ('(1,"x,y")', "(,)", '(1,"")', '(2,"\\\\ ""q"" \t\n")', '(1,"(a)")'),
        "pair[]": ('{"(1,\\"x y\\")",NULL,"(,)"}', '{{"(1,a)"},{"(2,b)"}}', "{}"),
        "nested": ('("(1,a)","{""(2,b)"",NULL}",sad,1.50,pg_class)', "(,,,,)"),
        "nested[]": ('{"(,,\\"o\'kay \\\\\\\\ \\"\\"fine\\"\\", {x}\\",0,)"}',),
        "nothing": ("()",),
        "shrunk": ("(1,x)",),
        "couple": ("(1,a)",),
        "couple[]": ('{"(1,a)",NULL}',),
        "row_type": ('(1,2026-01-01 00:00:00+00,name,"{a,NULL}")', "(,,,)"),
        "row_type[]": ('{"(1,,x,)"}',),
        '"Other schema".pair': ("(2026-01-01,{infinity})", "(,)"),
        "mood[]": ('{sad,NULL,"NULL",""," "}',),
        "moods": ("{sad,so-so}", "{{sad},{sad}}"),
        "feeling[]": ("{sad}",),
        '"Other schema".mood[]': ("{list,NULL}",),
        "grade[]": ("{1.5,NULL}",),
        "grid[]": ('{"{1,2}","[2:3]={3,4}",NULL}',),
        "floats": ("[1.5,2.5)", "empty", "(-infinity,NaN]", "(,)"),
        "floats_multirange": ("{[1,2),[3,4)}", "{}"),
        "floats[]": ('{"[1,2)",NULL}',),
        "floats_multirange[]": ('{"{[1,2)}",NULL}',),
        "span": ("[1,2]",),
        "words": ('["a b","c,d")', '["",z]'),
        "many_words": ('{["a b",b),[c,d)}',),
        "grades": ("[1.5,2.5]", "(,)"),
        "feelings": ("[sad,so-so]",),
        '"Other schema".floats': ("[1.50,2.5)",),
        "ghost": ("boo",),
    },
}  # fmt: skip
KEYED = {**BINARY, **TEXTUAL}
# Their values mean something only inside their own database, or their order is a collation's.
AS_TEXT = frozenset(
    {"aclitem", "aclitem[]", "pg_node_tree", "relation", "gtsvector", "words", "many_words"}
)

# Tables without a key or a cursor, by what the warehouse must show of them.
ODD = (
    'CREATE TABLE odd."Odd ""Name"" %s {x}" ("A b" int, "select" text, "%" text, "{0}" text,'
    ' "a""b" text, " " text, "é\n" text)',
    """INSERT INTO odd."Odd ""Name"" %s {x}" VALUES (1, 'x', '%', '{', '"', '', E'\\n'),"""
    " (1, 'x', '%', '{', '\"', '', E'\\n'), (NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
    f'CREATE TABLE odd."{LONGEST}" ("{LONGEST}" "{LONGEST_TYPE}", "{LONG}y" int PRIMARY KEY)',
    f"""INSERT INTO odd."{LONGEST}" VALUES ('{LONGEST}', 1), (NULL, 2)""",
    f'CREATE TABLE odd."{LONG}y" ("{LONGEST}" int PRIMARY KEY)',
    f'INSERT INTO odd."{LONG}y" SELECT generate_series(1, 3)',
    f"CREATE TABLE odd.{FIRST_58}bcdef (id int PRIMARY KEY)",
    f"CREATE TABLE odd.{FIRST_58}ghijk (id int PRIMARY KEY)",
    f"INSERT INTO odd.{FIRST_58}ghijk VALUES (1)",
    "CREATE TABLE odd.no_rows (id int PRIMARY KEY, name text)",
    "CREATE TABLE odd.no_columns ()",
    "INSERT INTO odd.no_columns SELECT FROM generate_series(1, 3)",
    "CREATE TABLE odd.no_columns_left (a int)",
    "INSERT INTO odd.no_columns_left VALUES (1), (2)",
    "ALTER TABLE odd.no_columns_left DROP COLUMN a",
    "CREATE TABLE odd.dropped (a int, b int, c text, d int)",
    "ALTER TABLE odd.dropped DROP COLUMN a, DROP COLUMN c, ADD a text DEFAULT 'again'",
    "INSERT INTO odd.dropped VALUES (1, 2), (1, 2), (NULL, 2)",
    "CREATE TABLE odd.copies (a int, b text, c float8)",
    "INSERT INTO odd.copies SELECT n % 3, nullif((n % 2)::text, '0'), 'NaN'"
    " FROM generate_series(1, 50) n",
    "CREATE TABLE odd.parts (term int, score int, note text, PRIMARY KEY (score, term))"
    " PARTITION BY LIST (term)",
    "CREATE TABLE odd.parts_1 (note text, score int NOT NULL, gone int, term int NOT NULL)",
    "ALTER TABLE odd.parts_1 DROP COLUMN gone",
    "ALTER TABLE odd.parts ATTACH PARTITION odd.parts_1 FOR VALUES IN (1)",
    "CREATE TABLE odd.parts_2 PARTITION OF odd.parts FOR VALUES IN (2) PARTITION BY RANGE (score)",
    "CREATE TABLE odd.parts_2_all PARTITION OF odd.parts_2 DEFAULT",
    "INSERT INTO odd.parts VALUES (1, 10, 'x'), (2, 20, 'y'), (2, 21, NULL)",
    "CREATE TABLE odd.parent (a int, b text)",
    "CREATE TABLE odd.child (c int) INHERITS (odd.parent)",
    "INSERT INTO odd.parent VALUES (1, 'parent')",
    "INSERT INTO odd.child VALUES (2, 'child', 3)",
    "CREATE TABLE odd.made_up (n int, twice int GENERATED ALWAYS AS (n * 2) STORED,"
    " always int GENERATED ALWAYS AS IDENTITY (START -5 INCREMENT -1),"
    " sometimes bigint GENERATED BY DEFAULT AS IDENTITY, many bigserial)",
    "INSERT INTO odd.made_up (n) VALUES (1), (NULL), (3)",
    "CREATE TABLE odd.wide (" + ", ".join(f"c{n} int" for n in range(100)) + ", "
    + ", ".join(f"c{n} varchar(10) NOT NULL DEFAULT 'ɛ'" for n in range(100, 200)) + ")",
    "INSERT INTO odd.wide (c0, c99) SELECT n, -n FROM generate_series(1, 20) n",
    "CREATE TABLE odd.tree AS SELECT 1 AS id, adbin FROM pg_attrdef"
    " WHERE adrelid = 'odd.dropped'::regclass",
    "CREATE TABLE odd.long_key (id citext, at numrange, day date, PRIMARY KEY (id, at, day))",
    "INSERT INTO odd.long_key VALUES ('A', '[1,2.0)', 'infinity'), ('b', 'empty', '0044-03-15 BC')",
    "CREATE TABLE odd.required (mood required, moods required[])",
    "INSERT INTO odd.required VALUES (DEFAULT, NULL), ('so-so', '{sad}')",
    "CREATE UNLOGGED TABLE odd.unlogged AS SELECT 1 AS n",
    'CREATE TABLE "Other schema".other AS SELECT \'another\'::"Other schema".mood AS mood,'
    " '(2026-01-01,)'::\"Other schema\".pair AS pair, 'sad'::mood AS public_mood",
    "CREATE VIEW odd.seen AS SELECT p.*, r AS row FROM odd.parts p, public.row_type r",
    "CREATE MATERIALIZED VIEW odd.kept AS SELECT * FROM odd.parts",
    # As PostgreSQL itself would name another table's key, and another type's array.
    "CREATE TABLE odd.keyed (id int PRIMARY KEY)",
    "CREATE TABLE public.keyed_pkey (id int, CONSTRAINT another PRIMARY KEY (id),"
    " stamp timestamptz NOT NULL DEFAULT '2026-01-01')",
    "INSERT INTO public.keyed_pkey VALUES (1)",
    "CREATE TABLE odd._ghost (id int)",
    'CREATE TABLE odd."keyed~keys" (id int)',
    'CREATE TABLE odd."public.keyed" (id int)',
)  # fmt: skip
ODD_CHANGES = (
    """DELETE FROM odd."Odd ""Name"" %s {x}" WHERE "A b" IS NULL""",
    """INSERT INTO odd."Odd ""Name"" %s {x}" ("A b") VALUES (2), (2)""",
    f'DELETE FROM odd."{LONGEST}"',
    f"INSERT INTO odd.{FIRST_58}bcdef VALUES (1)",
    "INSERT INTO odd.no_rows VALUES (1, 'now')",
    "INSERT INTO odd.no_columns DEFAULT VALUES",
    "ALTER TABLE odd.dropped ADD c int DEFAULT 5, DROP COLUMN d",
    "DELETE FROM odd.copies WHERE ctid IN (SELECT max(ctid) FROM odd.copies GROUP BY a)",
    "CREATE TABLE odd.parts_3 PARTITION OF odd.parts DEFAULT",
    "INSERT INTO odd.parts VALUES (7, 7, 'z')",
    "INSERT INTO odd.child VALUES (4, 'late', 5)",
    "INSERT INTO odd.made_up (n, sometimes) VALUES (9, -9)",
    "ALTER TABLE odd.wide ALTER c0 TYPE bigint, ALTER c199 DROP NOT NULL, ALTER c5 TYPE text",
    "UPDATE odd.wide SET c199 = NULL, c5 = '5'",
    "TRUNCATE odd.long_key",
    "REFRESH MATERIALIZED VIEW odd.kept",
    """ALTER TYPE "Other schema".mood ADD VALUE 'first' BEFORE 'another'""",
    "ALTER TYPE pair ADD ATTRIBUTE c date",
)


def create(uri: str) -> None:
    """Fill the empty source, and let the reader read all of it."""
    with psycopg.connect(uri) as connection:
        connection.execute("SET lc_monetary = 'C'")
        for statement in TYPES:
            connection.execute(statement)
        for table, columns in KEYED.items():
            _create_table(connection, table, columns)
        connection.execute("CREATE SCHEMA odd")
        for statement in ODD:
            connection.execute(statement)
        allow(connection)


def allow(connection: psycopg.Connection[Any]) -> None:
    """Let the reader read whatever is there."""
    for schema in ("public", "odd", '"Other schema"'):
        connection.execute(f"GRANT USAGE ON SCHEMA {schema} TO ingest_reader")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO ingest_reader")


def change(uri: str) -> None:
    """In every keyed table delete a row, overwrite one with another's values and add two."""
    with psycopg.connect(uri) as connection:
        for table, types in KEYED.items():
            columns = ", ".join(f"c{place}" for place, _ in enumerate(types))
            connection.execute(f"DELETE FROM {table} WHERE id = 1")
            connection.execute(
                f"UPDATE {table} SET (stamp, {columns}) = (SELECT now(), {columns} FROM {table} s"
                " WHERE s.id = 3) WHERE id = 2"
            )
            connection.execute(
                f"INSERT INTO {table} (id, stamp, {columns}) SELECT id + 100, now(), {columns}"
                f" FROM {table} WHERE id IN (2, 4)"
            )


def change_odd(uri: str) -> None:
    """Change the rows and the columns of the other tables, and what two types are made of."""
    with psycopg.connect(uri) as connection:
        for statement in ODD_CHANGES:
            connection.execute(statement)
        allow(connection)


def _create_table(
    connection: psycopg.Connection[Any], table: str, types: dict[str, tuple[str, ...]]
) -> None:
    declared = ", ".join(f"c{place} {type_}" for place, type_ in enumerate(types))
    connection.execute(
        f"CREATE TABLE {table} (id int PRIMARY KEY, stamp timestamptz NOT NULL, {declared})"
    )
    columns = sql.SQL(", ").join(sql.Identifier(f"c{place}") for place, _ in enumerate(types))
    for row in range(max(4, *map(len, types.values()))):
        values = [given[row] if row < len(given) else None for given in types.values()]
        connection.execute(
            sql.SQL(
                "INSERT INTO {} (id, stamp, {}) VALUES (%s, now() - interval '1 s', {})"
            ).format(
                sql.Identifier(table), columns, sql.SQL(", ").join(sql.Placeholder() * len(values))
            ),
            [row + 1, *values],
        )
