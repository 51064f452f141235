"""Writes the payment system's tables: rows by COPY in the order of their references, changes of status in bulk."""

from __future__ import annotations

import io
from datetime import date, datetime
from pathlib import Path

from psycopg2.extensions import connection as Connection

DDL = Path(__file__).parent / "payment_system.sql"
FLUSH_CHARACTERS = 1 << 19

# Parents first: a row is copied after the rows it refers to.
TABLES = (
    "merchants", "fee_schedules", "payment_methods", "payments", "payment_attempts", "captures", "refunds",
    "disputes", "payouts", "fx_conversions", "ledger_entries",
)  # fmt: skip
KEYS_OF_CHANGING = {"payments": "payment_id", "refunds": "refund_id", "payouts": "payout_id"}

Value = str | int | bool | datetime | date | None


def _copy_text(value: Value) -> str:
    if value is None:
        return "\\N"
    if value is True:
        return "t"
    if value is False:
        return "f"
    return str(value)


class Ledger:
    """The payment system's database within one transaction.

    :param connection: an open connection; None replays a day whose rows the database has already, and writes nothing.
    """

    def __init__(self, connection: Connection | None) -> None:
        self.connection = connection
        self.inserted = dict.fromkeys(TABLES, 0)
        self._rows: dict[str, list[str]] = {table: [] for table in TABLES}
        self._characters = 0
        self._changes: dict[str, dict[str, tuple[str, datetime]]] = {table: {} for table in KEYS_OF_CHANGING}

    def insert(self, table: str, *values: Value) -> None:
        """Add a row; values in the order of the table's columns, free of tabs and backslashes."""
        self.inserted[table] += 1
        if self.connection is None:
            return
        row = "\t".join([_copy_text(value) for value in values])
        self._rows[table].append(row)
        self._characters += len(row)
        if self._characters > FLUSH_CHARACTERS:
            self._flush()

    def change(self, table: str, key: str, status: str, updated_at: datetime) -> None:
        """Set a row's status; of several changes in one day the latest counts."""
        known = self._changes[table].get(key)
        if known is None or known[1] <= updated_at:
            self._changes[table][key] = (status, updated_at)

    def finish(self) -> None:
        """Write everything that is still held; the caller commits."""
        self._flush()
        if self.connection is None:
            return
        with self.connection.cursor() as cursor:
            for table, changes in self._changes.items():
                if not changes:
                    continue
                key = KEYS_OF_CHANGING[table]
                text = "".join(f"{name}\t{status}\t{moment}\n" for name, (status, moment) in changes.items())
                cursor.execute(
                    f"create temporary table changed_{table}"
                    " (key text primary key, status text, updated_at timestamptz) on commit drop"
                )
                cursor.copy_expert(f"copy changed_{table} from stdin", io.StringIO(text))
                cursor.execute(
                    f"update payments.{table} t set status = c.status, updated_at = c.updated_at"
                    f" from changed_{table} c where t.{key} = c.key"
                )
                if cursor.rowcount != len(changes):
                    raise RuntimeError(
                        f"{len(changes) - cursor.rowcount} of {len(changes)} changes found no row in payments.{table}: "
                        "the database and the sandbox's state are from different worlds, create the sandbox anew"
                    )

    def _flush(self) -> None:
        if self.connection is not None:
            with self.connection.cursor() as cursor:
                for table in TABLES:
                    rows = self._rows[table]
                    if rows:
                        cursor.copy_expert(f"copy payments.{table} from stdin", io.StringIO("\n".join(rows) + "\n"))
                        rows.clear()
        self._characters = 0
