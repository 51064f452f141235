"""Load notes: what a load saw and somebody should know, written down in the transaction that loads.

``warn`` means: look at it today, everything goes on. ``fail`` means: numbers people read are incomplete or were
changed behind our back. The check ``load_notes`` turns the notes of the newest loads into findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from psycopg2.extras import Json

NoteSeverity = Literal["warn", "fail"]


def note(
    cursor: Any,
    *,
    source: str,
    table_name: str,
    kind: str,
    severity: NoteSeverity,
    message: str,
    as_of: datetime,
    interval_end: datetime | None = None,
    batch_id: int | None = None,
    file_id: int | None = None,
    observed: Mapping[str, Any] | None = None,
) -> None:
    """Write one note; it is committed, or rolled back, with the load.

    :param cursor: of the loader's transaction.
    :param table_name: as declared at the source, not the raw table's name.
    :param kind: what it is, one word a kind, e.g. ``"rows_deleted"``: one finding a table and kind is made of it.
    :param message: what was seen, and what to do.
    :param interval_end: of the interval loaded, for a snapshot.
    :param batch_id: the batch it is about, None where the table was left out.
    :param file_id: the file it is about.
    :param observed: the numbers behind the message, JSON-able.
    """
    cursor.execute(
        "insert into ops.load_notes "
        "(source, table_name, interval_end, batch_id, file_id, kind, severity, message, observed, as_of) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            source, table_name, interval_end, batch_id, file_id, kind, severity, message, Json(dict(observed or {})),
            as_of,
        ),
    )  # fmt: skip
