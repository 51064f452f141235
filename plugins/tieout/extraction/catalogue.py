"""What a Postgres schema holds, as its own catalogue says: tables, columns, keys, indexes, sizes, comments.

Nothing is judged here but one question: can a column be declared, that is, has its type a name that raw understands
and that the extraction will find again. ``source_suggestions`` makes a declaration of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import connection as Connection

from tieout.sources import BATCH_ID, FILE_ID, IS_DELETED, NAME_PATTERN, TYPE_PATTERN, canonical_type

KINDS = {
    "r": "table",
    "p": "partitioned table",
    "m": "materialized view",
    "v": "view",
    "f": "foreign table",
}
# Postgres's long names, and the short ones that people write; both mean the same type.
SHORT_TYPES = (
    ("timestamp(%s) with time zone", "timestamptz(%s)"),
    ("timestamp(%s) without time zone", "timestamp(%s)"),
    ("timestamp with time zone", "timestamptz"),
    ("timestamp without time zone", "timestamp"),
    ("character varying", "varchar"),
)
# Somebody's schema change may hold the catalogue's tables: give up before people notice.
BEGIN_READING = (
    "begin isolation level repeatable read read only; set local lock_timeout = '30s'; "
    "set local statement_timeout = '120s'; set local search_path = pg_catalog"
)
RAW_OWN_COLUMNS = (BATCH_ID, IS_DELETED, FILE_ID)
# Extensions bring views of their own into public; a partition comes with its table.
RELATIONS = """
select c.oid::bigint, c.relname, c.relkind::text, obj_description(c.oid, 'pg_class'),
       has_table_privilege(c.oid, 'select'), row_security_active(c.oid),
       (select e.extname from pg_depend d join pg_extension e on e.oid = d.refobjid
        where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.refclassid = 'pg_extension'::regclass
          and d.deptype = 'e'),
       c.relispartition,
       (select format('%%I.%%I', pn.nspname, p.relname) from pg_inherits i join pg_class p on p.oid = i.inhparent
        join pg_namespace pn on pn.oid = p.relnamespace where i.inhrelid = c.oid order by i.inhseqno limit 1),
       exists (select from pg_inherits i join pg_class p on p.oid = i.inhparent
               where i.inhrelid = c.oid and p.relnamespace = c.relnamespace),
       c.relkind = 'r' and exists (select from pg_inherits i where i.inhparent = c.oid),
       size.row_count, size.updates, size.deletes
from pg_class c
cross join lateral (
    select sum(nullif(leaf.reltuples, -1))::bigint as row_count,
           coalesce(sum(pg_stat_get_tuples_updated(leaf.oid)), 0)::bigint as updates,
           coalesce(sum(pg_stat_get_tuples_deleted(leaf.oid)), 0)::bigint as deletes
    from pg_class leaf
    where leaf.oid = any(case when c.relkind = 'p'
                              then array(select relid::oid from pg_partition_tree(c.oid) where isleaf)
                              else array[c.oid] end)
) size
where c.relnamespace = %s and c.relkind in ('r', 'p', 'm', 'v', 'f')
order by c.relname
"""
# A domain counts as the type it is made of, also when that is a domain again.
COLUMNS = """
select a.attrelid::bigint, a.attname, a.attnotnull or t.typnotnull, a.attgenerated <> '',
       col_description(a.attrelid, a.attnum), base.typtype::text = 'e', base.typnamespace = 'pg_catalog'::regnamespace,
       format_type(base.oid, null), format_type(base.oid, base.modifier)
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
cross join lateral (
    with recursive below as (
        select s.oid, s.typtype, s.typnamespace, s.typbasetype, s.typtypmod, a.atttypmod as modifier
        from pg_type s where s.oid = t.oid
        union all
        select s.oid, s.typtype, s.typnamespace, s.typbasetype, s.typtypmod, below.typtypmod
        from below join pg_type s on s.oid = below.typbasetype where below.typtype = 'd'
    )
    select * from below where typtype <> 'd'
) base
where c.relnamespace = %s and c.relkind in ('r', 'p', 'm', 'v', 'f')
order by a.attrelid, a.attnum
"""
INDEXES = """
select i.indrelid::bigint, i.indisprimary,
       i.indisunique and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null,
       array(select a.attname::text from unnest(i.indkey::smallint[]) with ordinality part(attnum, place)
             join pg_attribute a on a.attrelid = i.indrelid and a.attnum = part.attnum
             where part.place <= i.indnkeyatts order by part.place)
from pg_index i join pg_class c on c.oid = i.indrelid
where c.relnamespace = %s
order by i.indrelid, i.indisprimary desc, i.indnkeyatts, i.indexrelid
"""


class CatalogueError(ValueError):
    """The schema cannot be read or declared as asked; the message names what and the remedy."""


@dataclass(frozen=True)
class SourceColumn:
    """One column at the source.

    ``data_type`` is the spelling to declare, None where the column cannot be declared: ``problem`` says why then.
    ``seen_as`` is the source's own spelling of the type.
    """

    name: str
    data_type: str | None
    seen_as: str
    not_null: bool
    is_generated: bool
    comment: str
    problem: str | None = None


@dataclass(frozen=True)
class Relation:
    """One table or view of the schema.

    ``rows`` is the planner's estimate, None where it has none. ``unique_keys`` are the columns of unique indexes that
    hold for every row, the primary key first when ``has_primary_key``; ``indexed`` are the leading columns of any
    index. ``updates`` and ``deletes`` are what the server's statistics have counted since they were reset.
    ``problem`` says why it cannot be extracted at all.
    """

    name: str
    kind: str
    rows: int | None
    comment: str
    columns: tuple[SourceColumn, ...]
    unique_keys: tuple[tuple[str, ...], ...]
    has_primary_key: bool
    indexed: frozenset[str]
    updates: int
    deletes: int
    has_children: bool
    problem: str | None = None

    def column(self, name: str) -> SourceColumn | None:
        """The column of that name."""
        return next((column for column in self.columns if column.name == name), None)


def read_catalogue(source: Connection, schema: str) -> list[Relation]:
    """Every table and view of a schema, by name; partitions are part of their table.

    One read-only transaction, which reads no row of any of them.

    :param source: a psycopg2 connection in autocommit.
    :raises CatalogueError: there is no such schema, or the user may not enter it.
    """
    with source.cursor() as cursor:
        cursor.execute(BEGIN_READING)
        try:
            namespace = _enter(cursor, schema)
            cursor.execute(RELATIONS, (namespace,))
            relations = cursor.fetchall()
            cursor.execute(COLUMNS, (namespace,))
            columns = _by_relation(cursor.fetchall())
            cursor.execute(INDEXES, (namespace,))
            indexes = _by_relation(cursor.fetchall())
            spelled: dict[tuple[str, str], str | None] = {}
            return [
                _relation(row, _columns(cursor, columns.get(row[0], []), spelled), indexes.get(row[0], []), schema)
                for row in relations
                if not (row[7] and row[9])
            ]
        finally:
            cursor.execute("rollback")


def readable(text: str, limit: int = 200) -> str:
    """Text of the source on one line without control characters, for a comment or a message."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    shown = " ".join(shown.split())
    return shown if len(shown) <= limit else shown[:limit] + "..."


def _enter(cursor: Any, schema: str) -> int:
    cursor.execute(
        "select oid::bigint, has_schema_privilege(oid, 'usage'), current_user from pg_namespace where nspname = %s",
        (schema,),
    )
    found = cursor.fetchone()
    if found is None:
        cursor.execute(
            "select nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema' "
            "order by nspname limit 50"
        )
        there = ", ".join(readable(name) for (name,) in cursor.fetchall())
        raise CatalogueError(f"there is no schema {readable(schema)!r} in this database; it has {there}")
    namespace, usable, user = found
    if not usable:
        raise CatalogueError(
            f"{readable(user)} may not use schema {readable(schema)}: grant usage on it, and select on its tables"
        )
    return int(namespace)


def _by_relation(rows: Iterable[tuple[Any, ...]]) -> dict[int, list[tuple[Any, ...]]]:
    grouped: dict[int, list[tuple[Any, ...]]] = {}
    for row in rows:
        grouped.setdefault(row[0], []).append(row[1:])
    return grouped


def _columns(
    cursor: Any, rows: list[tuple[Any, ...]], spelled: dict[tuple[str, str], str | None]
) -> tuple[SourceColumn, ...]:
    columns = []
    for name, not_null, is_generated, comment, is_enum, is_builtin, base, exact in rows:
        data_type, problem = None, None
        if name in RAW_OWN_COLUMNS:
            problem = "raw keeps a column of that name itself: offer it under another name through a view"
        elif not NAME_PATTERN.fullmatch(name):
            problem = "its name is not made of a-z, 0-9 and _: offer it under a plain name through a view"
        elif is_enum:
            data_type = "text"
        elif is_builtin:
            if (base, exact) not in spelled:
                spelled[base, exact] = _spelling(cursor, base, exact)
            data_type = spelled[base, exact]
        if data_type is None and problem is None:
            problem = f"its type {exact} is none that raw can hold: offer it cast to another type through a view"
        columns.append(SourceColumn(name, data_type, exact, not_null, is_generated, comment or "", problem))
    return tuple(columns)


def _spelling(cursor: Any, base: str, exact: str) -> str | None:
    """The type as it is declared: exact where that can be written down and is found again, else without modifier."""
    for wanted in dict.fromkeys((exact, base)):
        declared = _shortened(wanted)
        if TYPE_PATTERN.fullmatch(declared) and canonical_type(cursor, declared) == wanted:
            return declared
    return None


def _shortened(data_type: str) -> str:
    modifier = data_type.partition("(")[2].partition(")")[0]
    for long, short in SHORT_TYPES:
        long, short = (long % modifier, short % modifier) if "%s" in long else (long, short)
        if data_type == long or (data_type.startswith(long) and data_type[len(long)] in "(["):
            return short + data_type[len(long) :]
    return data_type


def _relation(
    row: tuple[Any, ...], columns: tuple[SourceColumn, ...], indexes: list[tuple[Any, ...]], schema: str
) -> Relation:
    _, name, kind, comment, may_read, row_security, extension, is_partition, parent, _, has_children, *size = row
    usable = [(primary, tuple(names)) for primary, unique, names in indexes if unique]
    return Relation(
        name=name,
        kind=KINDS[kind],
        rows=size[0],
        comment=comment or "",
        columns=columns,
        unique_keys=tuple(names for _, names in usable),
        has_primary_key=any(primary for primary, _ in usable),
        indexed=frozenset(names[0] for _, _, names in indexes if names),
        updates=size[1],
        deletes=size[2],
        has_children=has_children,
        problem=_relation_problem(name, schema, may_read, row_security, extension, is_partition, parent),
    )


def _relation_problem(
    name: str,
    schema: str,
    may_read: bool,
    row_security: bool,
    extension: str | None,
    is_partition: bool,
    parent: str | None,
) -> str | None:
    if extension:
        return f"it belongs to the extension {extension}"
    if not NAME_PATTERN.fullmatch(name):
        return "its name is not made of a-z, 0-9 and _: offer it under a plain name through a view"
    if parent:
        what = "is a partition of" if is_partition else "inherits from"
        return f"it {what} {readable(parent)}, and its rows come with that"
    if not may_read:
        return f"the connection's user may not read it: grant select on {readable(schema)}.{name}"
    if row_security:
        return "row security would hide rows: let the connection's user bypass it (bypassrls)"
    return None
