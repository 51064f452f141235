"""``ops.files``: one row per content that was seen in the landing, and in ``ops.file_actions`` what became of it later.

A content that was loaded stays as it is. One that was refused is read again after somebody released it; one that is
held is tried at every run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from psycopg2 import errors
from psycopg2.extensions import connection as Connection
from psycopg2.extras import Json

from tieout import files
from tieout.batches import loading_transaction

Status = Literal["loaded", "quarantined", "held"]
Action = Literal["released", "loaded", "held", "refused"]

# Stands in the row while its file is read; no one sees it, unless the run forgot to say what became of the file.
BEING_READ = "is being read"
ACTION_OF: dict[Status, Action] = {"loaded": "loaded", "quarantined": "refused", "held": "held"}
INGEST = "ingest"
# Another run may be loading a large file that has the same bytes, or brings the same documents.
LOCK_TIMEOUT_S = 600


class HeldFile(Exception):
    """The file is whole in itself, yet must not be loaded now; the message says why, and what ends it."""


class BusyError(Exception):
    """Another run has held what the file needs for too long; the message says what to do."""


@contextmanager
def file_transaction(warehouse: Connection) -> Iterator[Any]:
    """A :func:`loading_transaction` in which one file's fate is settled, whoever else is at work.

    :raises BusyError: another run did not let go of the file, or of documents, for :data:`LOCK_TIMEOUT_S`.
    """
    try:
        with loading_transaction(warehouse) as cursor:
            cursor.execute(f"set local lock_timeout = '{LOCK_TIMEOUT_S}s'")
            yield cursor
    except errors.LockNotAvailable as error:
        raise BusyError(
            f"another run has held this file, or documents that it brings, for more than {LOCK_TIMEOUT_S} s: look at "
            "that run and end it if it hangs; the file is read again by the next run"
        ) from error


@dataclass(frozen=True)
class Release:
    """Somebody's decision that a file is to be read again, or loaded in spite of what held it."""

    actor: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A content seen before; ``release`` is the decision that nothing has followed yet."""

    file_id: int
    name: str
    status: Status
    reason: str | None
    release: Release | None

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing to do about the content."""
        return self.status == "loaded" or (self.status == "quarantined" and self.release is None)

    @property
    def is_forced(self) -> bool:
        """Whether what held the file is overruled."""
        return self.status == "held" and self.release is not None


def find(cursor: Any, sha256: str) -> Entry | None:
    """The entry of a content, None if it is new."""
    cursor.execute(
        "select f.file_id, f.name, f.status, f.reason, a.action, a.actor, a.reason from ops.files f "
        "left join lateral (select * from ops.file_actions a where a.file_id = f.file_id "
        "  order by a.action_id desc limit 1) a on true where f.sha256 = %s",
        (sha256,),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    release = Release(*row[5:]) if row[4] == "released" else None
    return Entry(int(row[0]), row[1], row[2], row[3], release)


def enter(
    cursor: Any, before: Entry | None, sha256: str, name: str, uri: str, size_bytes: int, as_of: datetime
) -> int | None:
    """Take the content's row for this transaction, which ends with :func:`settle`.

    :param before: what :func:`find` gave.
    :returns: the file's id; None when another run was faster (it is waited for, if it has not committed yet).
    """
    if before is None:
        cursor.execute(
            "insert into ops.files (sha256, name, uri, size_bytes, status, reason, seen_at) "
            "values (%s, %s, %s, %s, 'held', %s, %s) on conflict (sha256) do nothing returning file_id",
            (sha256, name, uri, size_bytes, BEING_READ, as_of),
        )
    else:
        cursor.execute(
            "select file_id from ops.files where file_id = %s and status = %s for update",
            (before.file_id, before.status),
        )
    row = cursor.fetchone()
    return None if row is None else int(row[0])


def settle(
    cursor: Any,
    file_id: int,
    before: Entry | None,
    status: Status,
    reason: str | None,
    reading: files.Reading | None,
    observed: dict[str, Any],
    as_of: datetime,
) -> None:
    """Write down what became of a file that was entered.

    :param reason: why it was not loaded, None for a loaded one.
    :param observed: JSON-able; kept as it is.
    """
    read = reading or files.Reading()
    cursor.execute(
        "update ops.files set status = %s, reason = %s, format = %s, origin = %s, origin_account = %s, "
        "content_date = %s, statement_count = %s, entry_count = %s, record_header = %s, observed = %s "
        "where file_id = %s",
        (
            status, reason, read.format, read.origin, read.origin_account, read.content_date, read.statements,
            read.entries, read.record_header, Json(observed), file_id,
        ),
    )  # fmt: skip
    if before is None or (before.release is None and before.status == status):
        return
    said = reason or f"what stood against it is gone: {before.reason}"
    act(cursor, file_id, ACTION_OF[status], said, INGEST, as_of)


def act(cursor: Any, file_id: int, action: Action, reason: str, actor: str, as_of: datetime) -> None:
    """Write down what was decided about a file, or what came of that."""
    cursor.execute(
        "insert into ops.file_actions (file_id, action, reason, actor, as_of) values (%s, %s, %s, %s, %s)",
        (file_id, action, reason, actor, as_of),
    )
