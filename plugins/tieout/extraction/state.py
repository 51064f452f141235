"""What a source table looks like from outside: signs that rows went away, or came in ways a horizon does not show.

Counters are kept by the statistics system. A backend hands its counts over a while after its commit, within a minute
at the latest, and a crash loses them all. So an unchanged counter proves nothing: a table is swept every few days
anyhow. A changed one costs one sweep, and usually shows a deletion to the very next run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from psycopg2 import sql

from tieout.extraction.shape import Shape, source_identifier
from tieout.sources import Source, Table

DECLARED_ANEW = "its columns are declared, or their card numbers masked, in another way"
# A table with its partitions and other heirs, of which each has files and counters of its own.
FAMILY = (
    "with recursive family (name, relid) as ("
    "  select c.relname, c.oid from pg_class c join pg_namespace n on n.oid = c.relnamespace "
    "  where n.nspname = %s and c.relname = any(%s) "
    "  union all select f.name, i.inhrelid from family f join pg_inherits i on i.inhparent = f.relid) "
)


@dataclass(frozen=True)
class SourceState:
    """The state of one table at one snapshot.

    ``files`` changes with TRUNCATE, VACUUM FULL and partitions that come and go; ``counted`` are rows deleted, and for
    an append table rows updated as well, since ``counted_since``; ``declared`` is a digest of the declaration's
    columns and of how card numbers are masked in them; ``columns`` are the types as the source spells them.
    """

    files: str
    counted: int
    counted_since: str
    is_empty: bool
    declared: str
    columns: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """For ``ops.batches.source_state``."""
        return asdict(self)

    def differs_from(self, before: Mapping[str, Any]) -> str | None:
        """In what the state is another than the one stored before, in words; None where it is not.

        Columns do not count: a type that changed rewrites the rows, which come again by their transaction.
        """
        if before.get("declared") != self.declared:
            return DECLARED_ANEW
        if before.get("files") != self.files:
            return "its files are others (TRUNCATE, VACUUM FULL, a partition)"
        if before.get("counted_since") != self.counted_since:
            return "its counters began anew"
        if before.get("counted") != self.counted:
            return f"rows were deleted or moved ({before.get('counted')} counted before, {self.counted} now)"
        return None


@dataclass(frozen=True)
class Counted:
    """The counters of a source's tables: name to (rows deleted, rows updated), and since when they count."""

    tables: Mapping[str, tuple[int, int]]
    since: str


def count_changes(cursor: Any, declared: Source) -> Counted:
    """Read the counters of every declared table.

    :param cursor: at the source, in autocommit: within a transaction, counters stand still.
    """
    cursor.execute(
        FAMILY + "select name, sum(pg_stat_get_tuples_deleted(relid))::bigint, "
        "sum(pg_stat_get_tuples_updated(relid))::bigint from family group by name",
        (declared.schema, [table.name for table in declared.tables]),
    )
    tables = {name: (int(deleted), int(updated)) for name, deleted, updated in cursor.fetchall()}
    # The first moves when somebody resets the database's counters, the second when a crash threw all counters away.
    cursor.execute(
        "select concat_ws(' ', (select extract(epoch from stats_reset) from pg_stat_database "
        "where datname = current_database()), (select extract(epoch from stats_reset) from pg_stat_bgwriter))"
    )
    (since, *_) = cursor.fetchone()
    return Counted(tables, since)


def read_state(cursor: Any, table: Table, shape: Shape, counted: Counted) -> SourceState:
    """The table's state.

    :param cursor: in the snapshot, with the table locked.
    """
    cursor.execute(
        FAMILY + "select string_agg(c.oid || ':' || c.relfilenode, ' ' order by c.oid) "
        "from family join pg_class c on c.oid = family.relid",
        (table.source_schema, [table.name]),
    )
    (files, *_) = cursor.fetchone()
    is_empty = False
    # Whatever a view computes is not computed twice: a table of mode full is compared each time anyhow.
    if table.mode != "full":
        cursor.execute(sql.SQL("select not exists (select from {})").format(source_identifier(table)))
        (is_empty, *_) = cursor.fetchone()
    deleted, updated = counted.tables.get(table.name, (0, 0))
    columns = " ".join(f"{column.name} {column.data_type}" for column in table.columns)
    for column, expression in zip(table.columns, shape.expressions, strict=False):  # none where there is a problem
        if column.free_text:
            columns += f" {expression.as_string(cursor)}"
    return SourceState(
        files=_digest(files), counted=deleted + (updated if table.mode == "append" else 0),
        counted_since=counted.since, is_empty=is_empty, declared=_digest(columns), columns=dict(shape.columns),
    )  # fmt: skip


def _digest(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
