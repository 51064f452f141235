"""What the source's catalogue says about a declared table: how to select its rows, and where it broke the contract."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg2 import sql

from tieout.card_numbers import CardKey
from tieout.extraction.card_masking import masked
from tieout.sources import Column, Source, Table, canonical_type

# Only these have row versions with a transaction of their own (table, partitioned table, materialized view).
KINDS_WITH_XMIN = ("r", "p", "m")
LIMITED_TEXT = "character varying"
MODIFIER = re.compile(r"\(([\d,-]+)\)")


@dataclass(frozen=True)
class Shape:
    """How to select a declared table.

    ``expressions`` select the declared columns, in order: whatever reads rows of the source takes them from here.
    ``columns`` are their types as the source spells them, ``added`` those of columns that nobody declared.
    ``problem`` says why the table cannot be loaded.
    """

    expressions: tuple[sql.Composable, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    added: Mapping[str, str] = field(default_factory=dict)
    problem: str | None = None


def source_identifier(table: Table) -> sql.Identifier:
    """The table at its source, quoted."""
    return sql.Identifier(str(table.source_schema), table.name)


def source_rows(table: Table, shape: Shape, condition: sql.Composable) -> sql.Composed:
    """The declared columns of the source's rows where ``condition``, as a relation to select from."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} as {}").format(expression, sql.Identifier(name))
        for name, expression in zip(table.column_names, shape.expressions, strict=True)
    )
    return sql.SQL("(select {} from {} where {}) source_rows").format(columns, source_identifier(table), condition)


def relation_kinds(cursor: Any, declared: Source, tables: list[Table]) -> dict[str, str]:
    """Table to its kind as the catalogue has it: r, p, m, v or f."""
    cursor.execute(
        "select c.relname, c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = any(%s)",
        (declared.schema, [table.name for table in tables]),
    )
    return dict(cursor.fetchall())


def unreadable(cursor: Any, declared: Source, tables: list[Table]) -> dict[str, str]:
    """Tables that cannot be read at all -> why."""
    cursor.execute(
        "select c.relname, c.relkind::text, "
        "       has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') "
        "from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname = %s and c.relname = any(%s) and c.relkind in ('r', 'p', 'm', 'v', 'f')",
        (declared.schema, [table.name for table in tables]),
    )
    present = {name: (kind, readable) for name, kind, readable in cursor.fetchall()}
    problems = {}
    for table in tables:
        where = f"{declared.schema}.{table.name}"
        kind, readable = present.get(table.name, (None, False))
        if kind is None:
            problems[table.name] = f"{where} does not exist at the source (dropped or renamed?)"
        elif not readable:
            problems[table.name] = f"{where} may not be read by the connection's user: grant it SELECT"
        elif table.mode != "full" and kind not in KINDS_WITH_XMIN:
            problems[table.name] = f"{where} is a view or foreign table, which can only be read with mode: full"
    return problems


def inspect(cursor: Any, table: Table, card_key: CardKey | None = None) -> Shape:
    """Compare a table's columns with the declaration. A domain counts as its base type; an enum may be read as text.

    So may free text that the source limits in length: a mask may be longer than what it stands for.

    :param card_key: for the tokens of card numbers, which are masked in free text before they leave the source.
    """
    cursor.execute(
        "select a.attname, format_type(b.oid, null), format_type(b.oid, b.modifier), b.typtype = 'e', b.not_null "
        "from pg_attribute a cross join lateral ("
        "    with recursive below as ("
        "        select oid, typtype, typbasetype, typtypmod, a.atttypmod as modifier, "
        "               a.attnotnull or typnotnull as not_null from pg_type where oid = a.atttypid "
        "        union all "
        "        select t.oid, t.typtype, t.typbasetype, t.typtypmod, below.typtypmod, below.not_null or t.typnotnull "
        "        from below join pg_type t on t.oid = below.typbasetype where below.typtype = 'd'"
        "    ) select * from below where typtype <> 'd'"
        ") b where a.attrelid = %s::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum",
        (source_identifier(table).as_string(cursor),),
    )
    present = {name: rest for name, *rest in cursor.fetchall()}
    expressions: list[sql.Composable] = []
    columns: dict[str, str] = {}
    problems = []
    for column in table.columns:
        if column.name not in present:
            problems.append(f"column {column.name} is missing")
            continue
        base, exact, is_enum, not_null = present[column.name]
        columns[column.name] = f"{exact}{' not null' if not_null else ''}"
        declared = canonical_type(cursor, column.data_type)
        if declared == "text" and (is_enum or (column.free_text and base == LIMITED_TEXT)):
            expressions.append(_read(column, sql.SQL("{}::text").format(sql.Identifier(column.name)), card_key))
        elif declared == (exact if "(" in column.data_type else base):
            expressions.append(_read(column, sql.Identifier(column.name), card_key))
        else:
            problems.append(f"column {column.name} is {exact}, declared {column.data_type}")
    added = {name: exact for name, (_, exact, _, _) in present.items() if name not in table.column_names}
    if not problems:
        return Shape(tuple(expressions), columns, added)
    hint = f" (new there: {', '.join(added)})" if added else ""
    return Shape(added=added, problem=_frozen(table, "; ".join(problems) + hint))


def _read(column: Column, expression: sql.Composable, card_key: CardKey | None) -> sql.Composable:
    return masked(expression, card_key) if column.free_text else expression


def _frozen(table: Table, problems: str) -> str:
    return (
        f"{table.source_schema}.{table.name} is not as declared: {problems}. The table is "
        "frozen until the source is repaired, or the dbt source YAML and the raw table are changed to follow it"
    )


def narrowed(table: Table, before: Mapping[str, str], now: Mapping[str, str]) -> str | None:
    """Why a table freezes although every type is as declared: a type without length or precision in the declaration
    got one, or a smaller one, since the last load. What was cut off would stay unnoticed.

    :param before: column to its type at the last load, as in :class:`Shape`.
    """
    problems = [
        f"column {column.name} was {before[column.name]} and is narrowed to {now[column.name]}"
        for column in table.columns
        if column.name in before and "(" not in column.data_type
        if _is_narrower(now[column.name], before[column.name])
    ]
    return _frozen(table, "; ".join(problems)) if problems else None


def changed_types(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Columns whose type or constraint is another than at the last load, in words."""
    return [
        f"{name} was {before[name]} and is {spelled}"
        for name, spelled in now.items()
        if before.get(name, spelled) != spelled
    ]


def _is_narrower(now: str, before: str) -> bool:
    """Whether values that fitted may fit no longer. Types with another base are no narrower, they are others."""
    now, before = (spelled.replace(LIMITED_TEXT, "text") for spelled in (now, before))
    if MODIFIER.sub("", now).split()[0] != MODIFIER.sub("", before).split()[0]:
        return False
    limits, earlier = _limits(now), _limits(before)
    return limits is not None and (earlier is None or any(new < old for new, old in zip(limits, earlier, strict=True)))


def _limits(spelled: str) -> tuple[int, ...] | None:
    """What a type's modifier allows: digits before and behind the point, or a length; None for no limit."""
    match = MODIFIER.search(spelled)
    if match is None:
        return None
    first, *rest = (int(number) for number in match[1].split(","))
    return (first - rest[0], rest[0]) if rest else (first,)
