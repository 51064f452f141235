"""Loads a delivery straight into raw by COPY, with batches, files and control totals as the loader would enter them.

The readers and the extraction have benchmarks of their own; here only what is matched counts.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from tests.bench.match.days import ONE_DAY, at
from tests.bench.match.delivery import File, key_hash, totals
from tests.bench.match.events import Row
from tests.bench.match.world import Delivery
from tieout.sources import Table, load_registry


class Loader:
    """Enters deliveries; knows what the registry declares and which columns raw has."""

    def __init__(self, cursor: Cursor) -> None:
        self._tables: dict[tuple[str, str], Table] = {
            (table.source, table.name): table for table in load_registry().tables
        }
        cursor.execute("select table_name, column_name from information_schema.columns where table_schema = 'raw'")
        self._columns: dict[str, set[str]] = {}
        for table, column in cursor.fetchall():
            self._columns.setdefault(table, set()).add(column)
        self._until: datetime | None = None

    def load(self, cursor: Cursor, delivery: Delivery) -> int:
        """Enter everything a close has new.

        :returns: rows loaded.
        """
        end = at(delivery.business_date + ONE_DAY, 0)
        start = self._until or end - timedelta(days=7)
        self._until = end
        count = 0
        for table, rows in delivery.ledger.items():
            count += self._batch(cursor, "payments", table, rows, (start, end), None, end)
        for file in delivery.files:
            cursor.execute(
                "insert into ops.files (sha256, name, uri, size_bytes, format, status, origin, origin_account, "
                "content_date, seen_at) values (%s, %s, %s, 1, 'csv', 'loaded', %s, %s, %s, %s) returning file_id",
                (hashlib.sha256(file.name.encode()).hexdigest(), file.name, file.name, file.origin,
                 file.origin_account, file.content_date, end),
            )  # fmt: skip
            ((file_id,),) = cursor.fetchall()
            if "settlement_lines" in file.tables:
                self._document(cursor, file, file_id)
            for table, rows in file.tables.items():
                count += self._batch(cursor, "files", table, rows, (None, None), file_id, end)
        return count

    def _document(self, cursor: Cursor, file: File, file_id: int) -> None:
        """Enter a report, as the version that stands from now on."""
        identity = f"{file.origin}|{file.origin_account}|{file.content_date}"
        cursor.execute(
            "with earlier as (update ops.documents set superseded_by = %(file)s "
            "where kind = 'settlement_batch' and identity = %(identity)s and superseded_by is null returning version) "
            "insert into ops.documents (kind, identity, version, file_id, document_no) "
            "select 'settlement_batch', %(identity)s, coalesce(max(version), 0) + 1, %(file)s, 1 from earlier",
            {"file": file_id, "identity": identity},
        )

    def _batch(
        self, cursor: Cursor, source: str, table: str, rows: Sequence[Row],
        interval: tuple[datetime | None, datetime | None], file_id: int | None, as_of: datetime,
    ) -> int:  # fmt: skip
        declared = self._tables[source, table]
        # The landing's id of a file is not of the source: totals are taken without it.
        key = tuple(column for column in declared.key if column != "file_id")
        if file_id is not None:
            rows = [{**row, "file_id": file_id} for row in rows]
        cursor.execute(
            "insert into ops.batches "
            "(source, table_name, interval_start, interval_end, file_id, row_count, key_hash, as_of) "
            "values (%s, %s, %s, %s, %s, %s, %s, %s) returning batch_id",
            (source, table, *interval, file_id, len(rows), key_hash(rows, key), as_of),
        )
        ((batch_id,),) = cursor.fetchall()
        for (measure, currency), (number, total) in totals(rows, declared.amounts).items():
            cursor.execute("insert into ops.batch_totals values (%s, %s, %s, %s, %s)",
                           (batch_id, measure, currency, number, total))  # fmt: skip
        if rows:
            raw = declared.raw_table
            names = ["batch_id", *sorted({name for row in rows for name in row} & self._columns[raw])]
            copy_rows(cursor, sql.Identifier("raw", raw), names, ({**row, "batch_id": batch_id} for row in rows))
            copy_rows(cursor, sql.Identifier("ops", "repeated_rows"), ["batch_id", "row_no", "occurrence_no"], (
                {**row, "batch_id": batch_id, "row_no": row["line_no"]} for row in rows if "occurrence_no" in row
            ))  # fmt: skip
        return len(rows)


def copy_rows(cursor: Cursor, table: sql.Composable, names: Sequence[str], rows: Iterable[Row]) -> None:
    """COPY dictionaries into a table; what a row lacks is null, or false where it is about being deleted."""
    buffer = io.StringIO()
    for row in rows:
        buffer.write("\t".join(_text(row, name) for name in names) + "\n")
    buffer.seek(0)
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    cursor.copy_expert(sql.SQL("copy {} ({}) from stdin").format(table, columns).as_string(cursor), buffer)


def _text(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    if value is None:
        return "f" if name == "is_deleted" else "\\N"
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
