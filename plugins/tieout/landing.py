"""The landing: files that others send, each loaded once, proven, or quarantined whole with a reason.

A file is what its bytes are (sha256), whatever its name. Each one is loaded in a transaction of its own, so a
bad file never stops the others and a crash leaves nothing of the file it hit.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import connection as Connection

from tieout import files
from tieout.batches import (
    Totals,
    TotalsMismatchError,
    loading_transaction,
    open_batch,
    seal_batch,
)
from tieout.failpoints import Failpoint, FailpointReached, reach
from tieout.sources import BATCH_ID, Registry, Table, raw_identifier
from tieout.spool import CHUNK_BYTES, RefusedContent, Spools

Outcome = Literal["loaded", "known", "quarantined", "waiting", "empty", "failed"]

# Names that senders use while they are still writing.
UNFINISHED_SUFFIXES = (".tmp", ".part")

log = logging.getLogger(__name__)


class LandingError(RuntimeError):
    """The landing itself cannot be read; the message names it and the remedy."""


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file.

    ``outcome``: ``loaded``; ``known``, its bytes were seen before, perhaps under another name (``reason`` tells
    what became of them then); ``quarantined`` for ``reason``; ``waiting``, it was growing or went away while it was
    read, look again later; ``empty``, it has no bytes; ``failed``, our reader broke on it, it is tried again once
    the reader is repaired. Only ``loaded`` and ``quarantined`` leave a row in ops.files.
    """

    name: str
    uri: str
    outcome: Outcome
    reason: str | None = None
    sha256: str | None = None
    file_id: int | None = None
    format: str | None = None
    size_bytes: int = 0
    row_counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Arrival:
    """A file as the walk saw it."""

    path: Any
    size_bytes: int
    modified: Any


def load_landing(root: Any, warehouse: Connection, registry: Registry, as_of: datetime) -> list[FileOutcome]:
    """Load every new file below a folder, in the order of their paths.

    Names that start with a dot or end in .tmp or .part are still being written and are passed over.

    :param root: anything with the interface of pathlib.Path: a folder, or Airflow's ObjectStoragePath.
    :param warehouse: the loader's psycopg2 connection, in no transaction.
    :param as_of: the moment the run counts as; kept on files and batches.
    :returns: one :class:`FileOutcome` a file; none for an empty folder.
    :raises LandingError: the folder does not exist or cannot be listed.
    :raises OSError: the local disk is full or cannot be written.
    :raises psycopg2.Error: the warehouse failed; files loaded before stay loaded, the rest comes with the next run.
    """
    tables = {table.name: table for table in registry.tables if table.kind == "file"}
    outcomes = []
    for arrival in _walk(root):
        outcome = _load_file(arrival, warehouse, tables, as_of)
        log.info("%s: %s%s", outcome.name, outcome.outcome, f" ({outcome.reason})" if outcome.reason else "")
        outcomes.append(outcome)
    return outcomes


def _walk(root: Any) -> list[_Arrival]:
    """All files below, sorted; sizes are taken now, so that one which grows while others load is noticed."""
    try:
        if not root.is_dir():
            raise LandingError(f"the landing {root} is no folder: create it, or point TIEOUT_LANDING at the right one")
        found: list[_Arrival] = []
        folders = [root]
        while folders:
            for path in folders.pop().iterdir():
                if path.name.startswith(".") or path.name.endswith(UNFINISHED_SUFFIXES):
                    continue
                if path.is_dir():
                    if not path.is_symlink():  # which might lead round in a circle
                        folders.append(path)
                    continue
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue  # renamed since it was listed: the next run sees it under its new name
                found.append(_Arrival(path, state.st_size, state.st_mtime))
    except OSError as error:
        raise LandingError(
            f"the landing {root} cannot be listed: {error}. Check that it is there and readable"
        ) from error
    return sorted(found, key=lambda arrival: str(arrival.path))


def _load_file(arrival: _Arrival, warehouse: Connection, tables: dict[str, Table], as_of: datetime) -> FileOutcome:
    path = arrival.path
    outcome = FileOutcome(_storable(path.name), _storable(str(path)), "waiting", size_bytes=arrival.size_bytes)
    if arrival.size_bytes == 0:
        return replace(outcome, outcome="empty", reason="the file has no bytes: it is read once it has some")
    with tempfile.TemporaryDirectory(prefix="tieout-landing-") as folder:
        # The reader may look at the suffix, so the copy keeps the name; it can hold no separator.
        copy = Path(folder) / "file" / path.name
        copy.parent.mkdir()
        try:
            digest = _copy_and_digest(arrival, copy)
        except _StillMovingError as moving:
            return replace(outcome, reason=str(moving))
        except _UnreadableError as unreadable:
            return replace(outcome, outcome="failed", reason=str(unreadable))
        reach(Failpoint.FILE_COPIED)
        outcome = replace(outcome, sha256=digest)
        known = _find_known(warehouse, outcome)
        if known is not None:
            return known
        with ExitStack() as stack:
            spools = Spools(Path(folder), tables, stack)
            try:
                reading = files.read(copy, spools.add)
                spools.finish()
                reach(Failpoint.FILE_READ)
                return _store(warehouse, outcome, reading, spools, as_of)
            except files.Rejected as rejected:
                return _quarantine(warehouse, outcome, _storable(str(rejected)), rejected.reading, as_of)
            except RefusedContent as refused:
                return _quarantine(warehouse, outcome, _storable(str(refused)), refused.reading, as_of)
            except TotalsMismatchError as mismatch:
                log.exception("raw is not what the reader gave for %s", path)
                return replace(outcome, outcome="failed", reason=str(mismatch))
            except (psycopg2.Error, MemoryError, FailpointReached):
                raise  # the warehouse's or this machine's trouble, not the file's
            except Exception as broken:
                if isinstance(broken, OSError) and broken.errno is not None:
                    raise _local_disk_error(broken) from broken
                log.exception("the reader broke on %s", path)
                reason = f"the reader broke ({type(broken).__name__}: {broken}): report it; the file is tried again"
                return replace(outcome, outcome="failed", reason=reason)


def _storable(text: str) -> str:
    """Foreign text as Postgres takes it: bytes of a name that are no UTF-8, and NUL, are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "\\x00")


class _StillMovingError(Exception):
    """The file changed or vanished while it was copied."""


class _UnreadableError(Exception):
    """The landing does not give this one file out."""


def _copy_and_digest(arrival: _Arrival, target: Path) -> str:
    digest = hashlib.sha256()
    copied = 0
    try:
        with target.open("wb") as sink:
            for chunk in _chunks(arrival.path):
                digest.update(chunk)
                copied += len(chunk)
                sink.write(chunk)
    except OSError as error:
        raise _local_disk_error(error) from error
    try:
        state = arrival.path.stat()
    except FileNotFoundError as error:
        raise _StillMovingError("the file went away while it was read") from error
    if (copied, state.st_size, state.st_mtime) != (arrival.size_bytes, arrival.size_bytes, arrival.modified):
        raise _StillMovingError(
            f"the file is still being written ({arrival.size_bytes} bytes when listed, {state.st_size} now): "
            "it is read once it stays the same"
        )
    return digest.hexdigest()


def _chunks(path: Any) -> Iterator[bytes]:
    try:
        with path.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
    except FileNotFoundError as error:
        raise _StillMovingError("the file went away while it was read") from error
    except OSError as error:
        raise _UnreadableError(f"the file cannot be read: {error}. Check its permissions; it is tried again") from error


def _local_disk_error(error: OSError) -> OSError:
    where = tempfile.gettempdir()
    said = f"files are copied to {where} before they are read, and that failed: {error.strerror}. "
    return OSError(error.errno, f"{said}Free some space there, or point TMPDIR at another disk")


def _find_known(warehouse: Connection, outcome: FileOutcome) -> FileOutcome | None:
    with loading_transaction(warehouse) as cursor:
        cursor.execute("select file_id, name, status, reason from ops.files where sha256 = %s", (outcome.sha256,))
        row = cursor.fetchone()
    if row is None:
        return None
    file_id, name, status, reason = row
    what = f"same bytes as file {file_id} ({name}), {status}{f': {reason}' if reason else ''}"
    return replace(outcome, outcome="known", reason=what, file_id=file_id)


def _store(
    warehouse: Connection, outcome: FileOutcome, reading: files.Reading, spools: Spools, as_of: datetime
) -> FileOutcome:
    """Everything of one file in one transaction: identity, documents, batches, rows, totals compared."""
    _refuse_stray_totals(reading, spools)
    try:
        with loading_transaction(warehouse) as cursor:
            file_id = _enter_file(cursor, outcome, "loaded", None, reading, as_of)
            if file_id is not None:
                reach(Failpoint.FILE_ENTERED)
                _enter_documents(cursor, file_id, reading)
                reach(Failpoint.DOCUMENTS_ENTERED)
                for table in spools.tables():
                    _copy_table(cursor, table, file_id, reading, spools, as_of)
                reach(Failpoint.BEFORE_FILE_COMMIT)
    except psycopg2.DataError as error:
        said = str(error).strip().splitlines()[0]
        raise RefusedContent(f"a value does not fit its column: {said}", reading) from error
    except psycopg2.IntegrityError as error:
        said = str(error).strip().splitlines()[0]
        raise RefusedContent(f"a row breaks its table's declaration: {said}", reading) from error
    if file_id is None:
        return _find_known(warehouse, outcome) or outcome
    reach(Failpoint.AFTER_FILE_COMMIT)
    return replace(
        outcome, outcome="loaded", file_id=file_id, format=reading.format, row_counts=dict(spools.row_counts)
    )  # fmt: skip


def _refuse_stray_totals(reading: files.Reading, spools: Spools) -> None:
    """A total for a table without rows says that rows were lost on the way."""
    for (name, measure, currency), (rows, _) in reading.totals.items():
        if rows and not spools.row_counts.get(name):
            raise TotalsMismatchError(f"the total of {name}.{measure} in {currency} covers {rows} rows, none was given")


def _enter_file(
    cursor: Any, outcome: FileOutcome, status: str, reason: str | None, reading: files.Reading | None, as_of: datetime
) -> int | None:
    """The new file's id; None when another run entered the same bytes first (it waits for that run's commit)."""
    read = reading or files.Reading()
    cursor.execute(
        "insert into ops.files (sha256, name, uri, size_bytes, format, status, reason, origin, origin_account, "
        "content_date, statement_count, entry_count, seen_at) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict (sha256) do nothing returning file_id",
        (
            outcome.sha256, outcome.name, outcome.uri, outcome.size_bytes, read.format, status, reason, read.origin,
            read.origin_account, read.content_date, read.statements, read.entries, as_of,
        ),
    )  # fmt: skip
    row = cursor.fetchone()
    return None if row is None else int(row[0])


def _enter_documents(cursor: Any, file_id: int, reading: files.Reading) -> None:
    # Sorted, so that two runs that hold a document each do not wait for one another.
    for kind, identity, number in sorted(reading.documents):
        cursor.execute(
            "insert into ops.documents (kind, identity, version, file_id, document_no) values (%s, %s, 1, %s, %s) "
            "on conflict do nothing",
            (kind, identity, file_id, number),
        )
        if cursor.rowcount == 1:
            continue
        cursor.execute(
            "select file_id, name from ops.documents join ops.files using (file_id) where kind = %s and identity = %s",
            (kind, identity),
        )
        earlier_id, earlier_name = cursor.fetchone()
        if earlier_id == file_id:
            raise RefusedContent(f"{kind} {identity} stands in this file twice", reading)
        raise RefusedContent(
            f"{kind} {identity} was already loaded from file {earlier_id} ({earlier_name}): "
            "the same document with other bytes is not loaded twice",
            reading,
        )


def _copy_table(
    cursor: Any, table: Table, file_id: int, reading: files.Reading, spools: Spools, as_of: datetime
) -> None:
    batch_id = open_batch(cursor, table, as_of, file_id=file_id)
    columns = sql.SQL(", ").join(map(sql.Identifier, (BATCH_ID, *table.column_names)))
    cursor.copy_expert(
        sql.SQL("copy {} ({}) from stdin").format(raw_identifier(table), columns),
        spools.stream(table.name, batch_id, file_id),
        CHUNK_BYTES,
    )
    amounts = {
        (measure, currency): (rows, int(total_minor))
        for (name, measure, currency), (rows, total_minor) in reading.totals.items()
        if name == table.name and rows
    }
    expected = Totals(spools.row_counts[table.name], spools.key_hashes[table.name], amounts)
    seal_batch(cursor, table, batch_id, expected)


def _quarantine(
    warehouse: Connection, outcome: FileOutcome, reason: str, reading: files.Reading | None, as_of: datetime
) -> FileOutcome:
    with loading_transaction(warehouse) as cursor:
        file_id = _enter_file(cursor, outcome, "quarantined", reason, reading, as_of)
        reach(Failpoint.BEFORE_QUARANTINE)
    if file_id is None:
        return _find_known(warehouse, outcome) or outcome
    reach(Failpoint.AFTER_QUARANTINE)
    return replace(
        outcome, outcome="quarantined", reason=reason, file_id=file_id, format=reading.format if reading else None
    )  # fmt: skip
