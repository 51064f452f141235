"""``ops.files``: one row per delivery of a content, and in ``ops.file_actions`` what became of it later.

A content that was loaded stays as it is, wherever else it lies: its copies are no deliveries. It is delivered again
when it was put into the landing after another file that took the place of its documents, and after that file was
loaded: then a version of before is meant to stand again. One that was refused is read again after somebody released
it; one that is held is tried at every run.
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
    """Another run holds what the file needs, or was faster with it; the message says what to do."""


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
    """The latest delivery of a content; ``release`` is the decision that nothing has followed yet.

    ``replaced_at`` is since when another file stands for a document of it: the time of that file, or of its load where
    that is later; None while its own documents stand.
    """

    file_id: int
    name: str
    status: Status
    reason: str | None
    delivery: int
    replaced_at: datetime | None
    release: Release | None

    def is_settled(self, modified_at: datetime | None) -> bool:
        """Whether there is nothing to do about the content.

        :param modified_at: when it was put where it lies, None if nobody knows.
        """
        if self.status == "loaded":
            return self.replaced_at is None or modified_at is None or modified_at <= self.replaced_at
        return self.status == "quarantined" and self.release is None

    @property
    def is_forced(self) -> bool:
        """Whether what held the file is overruled."""
        return self.status == "held" and self.release is not None


def find(cursor: Any, sha256: str) -> Entry | None:
    """The entry of a content, None if it is new."""
    cursor.execute(
        "select f.file_id, f.name, f.status, f.reason, f.delivery, s.replaced_at, a.action, a.actor, a.reason "
        "from ops.files f "
        "left join lateral (select * from ops.file_actions a where a.file_id = f.file_id "
        "  order by a.action_id desc limit 1) a on true "
        "left join lateral (select max(greatest(by.modified_at, b.loaded_at)) as replaced_at "
        "  from ops.documents d join ops.documents n on (n.kind, n.identity) = (d.kind, d.identity) "
        "    and n.superseded_by is null "
        "  join ops.files by on by.file_id = n.file_id left join ops.batches b on b.file_id = n.file_id "
        "  where d.file_id = f.file_id and d.superseded_by is not null) s on true "
        "where f.sha256 = %s order by f.delivery desc limit 1",
        (sha256,),
    )
    row = cursor.fetchone()
    if row is None:
        return None
    file_id, name, status, reason, delivery, replaced_at, action, *decision = row
    release = Release(*decision) if action == "released" else None
    return Entry(file_id, name, status, reason, delivery, replaced_at, release)


def enter(
    cursor: Any,
    before: Entry | None,
    sha256: str,
    name: str,
    uri: str,
    size_bytes: int,
    modified_at: datetime | None,
    as_of: datetime,
) -> int | None:
    """Take the content's row for this transaction, which ends with :func:`settle`; a delivery of its own if it is one.

    :param before: what :func:`find` gave; a loaded one is delivered again.
    :param modified_at: when the content was put where it lies.
    :returns: the file's id; None when another run was faster (it is waited for, if it has not committed yet).
    """
    if before is None or before.status == "loaded":
        delivery = 1 if before is None else before.delivery + 1
        cursor.execute(
            "insert into ops.files (sha256, delivery, name, uri, size_bytes, modified_at, status, reason, seen_at) "
            "values (%s, %s, %s, %s, %s, %s, 'held', %s, %s) on conflict (sha256, delivery) do nothing "
            "returning file_id",
            (sha256, delivery, name, uri, size_bytes, modified_at, BEING_READ, as_of),
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
    if before is None or before.file_id != file_id or (before.release is None and before.status == status):
        return
    said = reason or f"what stood against it is gone: {before.reason}"
    act(cursor, file_id, ACTION_OF[status], said, INGEST, as_of)


def act(cursor: Any, file_id: int, action: Action, reason: str, actor: str, as_of: datetime) -> None:
    """Write down what was decided about a file, or what came of that."""
    cursor.execute(
        "insert into ops.file_actions (file_id, action, reason, actor, as_of) values (%s, %s, %s, %s, %s)",
        (file_id, action, reason, actor, as_of),
    )
