"""What raw knew of a batch's keys before: rows that came otherwise, and keys that were used again.

Every look goes to the version before the batch's own, by the index on the key.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from psycopg2 import sql

from tieout.batches import key_text
from tieout.sources import BATCH_ID, IS_DELETED, Table, raw_identifier

EXAMPLES_MAX = 3


@dataclass(frozen=True)
class Reused:
    """Keys of a batch that may stand for another thing than before.

    ``otherwise`` have another value in an immutable column, ``revived`` were gone and are the same again.
    """

    otherwise: int
    revived: int
    examples: tuple[str, ...]


def rows_otherwise(cursor: Any, table: Table, batch_id: int, condition: sql.Composable) -> int:
    """How many rows of the batch where ``condition`` raw did not have, or had with another content."""
    cursor.execute(
        sql.SQL("select count(*) from {} where {} and (known.{} is null or known.{} or {} <> {})").format(
            _versions(table, batch_id), condition, sql.Identifier(BATCH_ID), sql.Identifier(IS_DELETED),
            row_text(table.column_names, "fresh"), row_text(table.column_names, "known"),
        )
    )  # fmt: skip
    return int(cursor.fetchone()[0])


def reused_keys(cursor: Any, table: Table, batch_id: int) -> Reused:
    """Look the batch's keys up among what raw knew; where none can be used again, nothing is looked up."""
    if not table.immutable and not _has_buried(cursor, table):
        return Reused(0, 0, ())
    # A tombstone's amounts are zero whatever they were.
    lasting = [name for name in table.immutable if name not in table.amounts]
    cursor.execute(
        sql.SQL(
            "with seen as (select {key} as key_text, known.{gone} as was_gone, "
            "              case when known.{gone} then {fresh_lasting} <> {known_lasting} "
            "              else {fresh} <> {known} end as otherwise "
            "              from {versions} where known.{batch} is not null) "
            "select count(*) filter (where otherwise), count(*) filter (where was_gone and not otherwise), "
            "       (array_agg(key_text order by key_text) filter (where otherwise or was_gone))[:{examples}] from seen"
        ).format(
            key=key_text(table, "fresh"),
            gone=sql.Identifier(IS_DELETED),
            batch=sql.Identifier(BATCH_ID),
            fresh_lasting=row_text(lasting, "fresh"),
            known_lasting=row_text(lasting, "known"),
            fresh=row_text(table.immutable, "fresh"),
            known=row_text(table.immutable, "known"),
            versions=_versions(table, batch_id),
            examples=sql.Literal(EXAMPLES_MAX),
        )
    )
    otherwise, revived, examples = cursor.fetchone()
    return Reused(otherwise, revived, tuple(examples or ()))


def _has_buried(cursor: Any, table: Table) -> bool:
    cursor.execute(
        "select exists (select from ops.sweeps join ops.batches using (batch_id) "
        "where source = %s and table_name = %s and rows_deleted > 0)",
        (table.source, table.name),
    )
    return bool(cursor.fetchone()[0])


def row_text(names: Iterable[str], alias: str) -> sql.Composed:
    """The columns of a row as one text, in which no two different rows look alike."""
    columns = sql.SQL(", ").join(sql.Identifier(alias, name) for name in names)
    return sql.SQL("row({})::text").format(columns)


def _versions(table: Table, batch_id: int) -> sql.Composed:
    """The batch's living rows as ``fresh``, each beside the version before, ``known``, or nulls."""
    same_key = sql.SQL(" and ").join(
        sql.SQL("version.{0} = fresh.{0}").format(sql.Identifier(name)) for name in table.key
    )
    raw, batch, number = raw_identifier(table), sql.Identifier(BATCH_ID), sql.Literal(batch_id)
    return sql.SQL(
        "(select * from {raw} where {batch} = {number} and not {gone}) fresh left join lateral ("
        "select * from {raw} version where {same_key} and version.{batch} < {number} "
        "order by version.{batch} desc limit 1) known on true"
    ).format(raw=raw, batch=batch, number=number, gone=sql.Identifier(IS_DELETED), same_key=same_key)
