"""The landing: files that others send, each loaded once, proven, or set aside whole with a reason.

A file is what its bytes are (sha256), whatever its name. Each one is loaded in a transaction of its own, so a
bad file never stops the others and a crash leaves nothing of the file it hit.
"""

from __future__ import annotations

import hashlib
import logging
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import psycopg2
from psycopg2.extensions import connection as Connection

from tieout import files
from tieout.batches import Totals, TotalsMismatchError, loading_transaction, open_batch, seal_batch
from tieout.card_numbers import CardKey, redact
from tieout.failpoints import Failpoint, FailpointReached, reach
from tieout.landing import archives, continuity, documents
from tieout.landing import register as file_register
from tieout.landing.accounts import DeclaredAccounts
from tieout.landing.arrivals import (
    Arrival,
    StillMovingError,
    UnreadableError,
    copy_and_digest,
    local_disk_error,
    storable,
    walk,
)
from tieout.landing.binary import copy_statement
from tieout.landing.free_text import FreeText
from tieout.landing.register import BusyError, Entry, HeldFile, Status, file_transaction
from tieout.landing.spool import CHUNK_BYTES, CopyPipe, RefusedContent, Spools
from tieout.load_notes import note
from tieout.sources import Registry, Table

Outcome = Literal["loaded", "known", "quarantined", "held", "waiting", "empty", "failed"]

# Stands between an archive's address and the name of a member.
MEMBER_MARK = "!"
STATEMENTS = "bank_statements"
# Notes about a file as a whole name this instead of a table.
LANDING = "landing"
FILES = "files"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileOutcome:
    """What became of one file, or of one member of an archive.

    ``outcome``: ``loaded``; ``known``, its bytes were seen before, perhaps under another name (``reason`` tells
    what became of them then); ``quarantined`` for ``reason``; ``held`` for ``reason``, whole in itself and tried
    again at every run; ``waiting``, it was growing or went away while it was read, or another run holds it, look again
    later; ``empty``, it has no bytes; ``failed``, our reader broke on it, it is tried again once the reader is
    repaired. Only ``loaded``, ``quarantined`` and ``held`` leave a row in ops.files.
    """

    name: str
    uri: str
    outcome: Outcome
    reason: str | None = None
    sha256: str | None = None
    file_id: int | None = None
    format: str | None = None
    size_bytes: int = 0
    content_date: date | None = None
    row_counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Run:
    """What every file of one run is loaded with."""

    warehouse: Connection
    tables: dict[str, Table]
    as_of: datetime
    accounts: DeclaredAccounts | None
    card_key: CardKey | None


def load_landing(
    root: Any, warehouse: Connection, registry: Registry, as_of: datetime, accounts: DeclaredAccounts | None = None
) -> list[FileOutcome]:
    """Load every new file below a folder, in the order of their paths; files that are held last, while any is loaded.

    Names that start with a dot or end in .tmp or .part are still being written and are passed over. The members of a
    zip or gzip are files of their own.

    :param root: anything with the interface of pathlib.Path: a folder, or Airflow's ObjectStoragePath.
    :param warehouse: the loader's psycopg2 connection, in no transaction.
    :param as_of: the moment the run counts as; kept on files and batches.
    :param accounts: those that are ours, a file of another is held; None takes any account's files.
    :returns: one :class:`FileOutcome` a file; none for an empty folder.
    :raises LandingError: the folder does not exist or cannot be listed.
    :raises CardKeyError: the key for card tokens is too short.
    :raises OSError: the local disk is full or cannot be written.
    :raises psycopg2.Error: the warehouse failed; files loaded before stay loaded, the rest comes with the next run.
    """
    tables = {table.name: table for table in registry.tables if table.kind == "file"}
    run = _Run(warehouse, tables, as_of, accounts, CardKey.from_environment())
    # By the place among an arrival's outcomes: names with a card number may be alike once it is masked.
    found: dict[tuple[Arrival, int], FileOutcome] = {}
    progress = False
    for arrival in walk(root):
        for place, outcome in enumerate(_load_arrival(arrival, run)):
            found[arrival, place] = outcome
            progress |= outcome.outcome == "loaded"
    while progress:
        progress = False
        for arrival in _still_held(found):
            for place, outcome in enumerate(_load_arrival(arrival, run)):
                # Of an archive, the members that are loaded have their outcome already.
                if (arrival, place) in found and found[arrival, place].outcome == "held":
                    found[arrival, place] = outcome
                    progress |= outcome.outcome == "loaded"
    return list(found.values())


def _still_held(found: dict[tuple[Arrival, int], FileOutcome]) -> list[Arrival]:
    """The arrivals that are worth another look, oldest content first: one statement makes way for the next."""
    held: dict[Arrival, date] = {}
    for (arrival, _), outcome in found.items():
        if outcome.outcome == "held":
            held[arrival] = min(held.get(arrival, date.max), outcome.content_date or date.max)
    return sorted(held, key=held.__getitem__)


def _load_arrival(arrival: Arrival, run: _Run) -> Iterator[FileOutcome]:
    """Load a file, or each member of an archive."""
    path = arrival.path
    outcome = FileOutcome(_tellable(path.name), _tellable(str(path)), "waiting", size_bytes=arrival.size_bytes)
    if arrival.size_bytes == 0:
        yield _logged(_empty(run, outcome))
        return
    with tempfile.TemporaryDirectory(prefix="tieout-landing-") as folder:
        # The reader may look at the suffix, so the copy keeps the name; it can hold no separator.
        copy = Path(folder) / "file" / path.name
        copy.parent.mkdir()
        try:
            digest = copy_and_digest(arrival, copy)
        except StillMovingError as moving:
            yield _logged(replace(outcome, reason=str(moving)))
            return
        except UnreadableError as unreadable:
            yield _logged(replace(outcome, outcome="failed", reason=_tellable(str(unreadable))))
            return
        reach(Failpoint.FILE_COPIED)
        outcome = replace(outcome, sha256=digest)
        if not archives.is_archive(copy):
            yield _logged(_load_file(copy, outcome, run))
            return
        for member_outcome in _load_archive(copy, outcome, run, Path(folder) / "members"):
            yield _logged(member_outcome)


def _logged(outcome: FileOutcome) -> FileOutcome:
    log.info("%s: %s%s", outcome.name, outcome.outcome, f" ({outcome.reason})" if outcome.reason else "")
    return outcome


def _empty(run: _Run, outcome: FileOutcome) -> FileOutcome:
    outcome = replace(outcome, outcome="empty", reason="the file has no bytes: it is read once it has some")
    with loading_transaction(run.warehouse) as cursor:
        _note(cursor, run, "empty", f"{outcome.uri} has no bytes: ask the sender whether there was nothing to report")
    return outcome


def _note(cursor: Any, run: _Run, kind: str, message: str, file_id: int | None = None) -> None:
    note(
        cursor, source=FILES, table_name=LANDING, kind=kind, severity="warn", message=message, as_of=run.as_of,
        file_id=file_id,
    )  # fmt: skip


def _load_archive(copy: Path, outcome: FileOutcome, run: _Run, folder: Path) -> Iterator[FileOutcome]:
    """Load the members of an archive that keeps its limits; only one that does not is remembered itself."""
    before = _find(run, outcome)
    if before is not None and before.is_settled:
        yield _known(outcome, before)
        return
    try:
        members = archives.unpack(copy, copy.name, folder)
    except archives.RefusedArchive as refused:
        yield _set_aside(run, outcome, before, "quarantined", f"{outcome.name}: {refused}", None, {})
        return
    except OSError as error:
        raise local_disk_error(error) from error
    copy.unlink()
    for member in members:
        one = FileOutcome(
            _tellable(member.path.name), _tellable(f"{outcome.uri}{MEMBER_MARK}{member.name}"), "waiting",
            size_bytes=member.path.stat().st_size,
        )  # fmt: skip
        if one.size_bytes == 0:
            yield _empty(run, one)
            continue
        with member.path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        yield _load_file(member.path, replace(one, sha256=digest), run)
        member.path.unlink()


def _load_file(copy: Path, outcome: FileOutcome, run: _Run) -> FileOutcome:
    """Load one file that lies on the local disk."""
    before = _find(run, outcome)
    if before is not None and before.is_settled:
        return _known(outcome, before)
    with tempfile.TemporaryDirectory(prefix="tieout-landing-") as folder:
        try:
            return _store(run, outcome, before, copy, Path(folder))
        except _OvertakenError:
            return _overtaken(run, outcome)
        except BusyError as busy:
            return replace(outcome, reason=str(busy))
        except files.Rejected as rejected:
            return _set_aside(run, outcome, before, "quarantined", str(rejected), rejected.reading, _place(rejected))
        except RefusedContent as refused:
            return _set_aside(run, outcome, before, "quarantined", str(refused), refused.reading, {})
        except _HeldReading as held:
            return _set_aside(run, outcome, before, "held", str(held.reason), held.reading, {})
        except TotalsMismatchError as mismatch:
            log.exception("raw is not what the reader gave for %s", outcome.uri)
            return replace(outcome, outcome="failed", reason=str(mismatch))
        except (psycopg2.Error, MemoryError, FailpointReached):
            raise  # the warehouse's or this machine's trouble, not the file's
        except Exception as broken:
            if isinstance(broken, OSError) and broken.errno is not None:
                raise local_disk_error(broken) from broken
            # The error may name what it broke on.
            log.error("the reader broke on %s\n%s", outcome.uri, redact(traceback.format_exc()))
            said = redact(f"{type(broken).__name__}: {broken}")
            reason = f"the reader broke ({said}): report it; the file is tried again"
            return replace(outcome, outcome="failed", reason=reason)


class _HeldReading(Exception):
    """A file is held after it was read."""

    def __init__(self, reason: HeldFile, reading: files.Reading) -> None:
        super().__init__(str(reason))
        self.reason = reason
        self.reading = reading


def _place(rejected: files.Rejected) -> dict[str, Any]:
    """Where in the file the reason of a refusal stands."""
    place = {name: getattr(rejected, name) for name in ("line", "column", "expected", "found", "remedy")}
    return {"place": {name: _tellable(value) if isinstance(value, str) else value for name, value in place.items()}}


def _tellable(text: str) -> str:
    """What was found in a file, or what it is called, as it may be stored and told."""
    return redact(storable(text))


def _find(run: _Run, outcome: FileOutcome) -> Entry | None:
    with loading_transaction(run.warehouse) as cursor:
        return file_register.find(cursor, str(outcome.sha256))


def _known(outcome: FileOutcome, entry: Entry) -> FileOutcome:
    what = f"same bytes as file {entry.file_id} ({entry.name}), {entry.status}"
    reason = f"{what}: {entry.reason}" if entry.reason else what
    return replace(outcome, outcome="known", reason=reason, file_id=entry.file_id)


def _overtaken(run: _Run, outcome: FileOutcome) -> FileOutcome:
    """Another run dealt with the same bytes meanwhile."""
    entry = _find(run, outcome)
    return replace(outcome, reason="another run was dealing with it") if entry is None else _known(outcome, entry)


def _enter(cursor: Any, run: _Run, outcome: FileOutcome, before: Entry | None) -> int | None:
    return file_register.enter(
        cursor, before, str(outcome.sha256), outcome.name, outcome.uri, outcome.size_bytes, run.as_of
    )


def _store(run: _Run, outcome: FileOutcome, before: Entry | None, copy: Path, folder: Path) -> FileOutcome:
    """Everything of one file in one transaction: identity, batches, rows, documents and versions, totals compared.

    Rows are on their way to raw while the file is read; nothing of them stays when it is refused.
    """
    forced = before is not None and before.is_forced
    with file_transaction(run.warehouse) as cursor, ExitStack() as stack:
        load = _Load(cursor, run, outcome, before)
        spools = Spools(folder, run.tables, stack, run.card_key, load.pipe)
        reading = files.read(copy, spools.add)
        with _refusals(reading):
            spools.finish()
        reach(Failpoint.FILE_READ)
        _refuse_stray_totals(reading, spools)
        try:
            if run.accounts is not None and not forced:
                run.accounts.refuse_strangers(reading)
            file_id = load.enter()
            _load_rows(cursor, run, load, outcome, reading, spools, forced)
        except HeldFile as held:
            raise _HeldReading(held, reading) from held
        file_register.settle(cursor, file_id, before, "loaded", None, reading, _counted(reading), run.as_of)
        if before is not None and before.release is not None:
            _note_release(cursor, run, file_id, before)
        if not (spools.row_counts or reading.entries or reading.statements):
            said = f"{outcome.name} has a header and no line: ask the sender if there was nothing to report"
            _note(cursor, run, "header_only", said, file_id)
        reach(Failpoint.BEFORE_FILE_COMMIT)
    reach(Failpoint.AFTER_FILE_COMMIT)
    return replace(
        outcome, outcome="loaded", file_id=file_id, format=reading.format, content_date=reading.content_date,
        row_counts=dict(spools.row_counts),
    )  # fmt: skip


class _OvertakenError(Exception):
    """Another run entered the same bytes first."""


class _Load:
    """One file's transaction: the file is entered when its first row is there, or at the end."""

    def __init__(self, cursor: Any, run: _Run, outcome: FileOutcome, before: Entry | None) -> None:
        self.batches: dict[str, int] = {}
        self._cursor = cursor
        self._run = run
        self._outcome = outcome
        self._before = before
        self._file_id: int | None = None

    def enter(self) -> int:
        """The file's id.

        :raises _OvertakenError: another run has it.
        """
        if self._file_id is None:
            self._file_id = _enter(self._cursor, self._run, self._outcome, self._before)
            if self._file_id is None:
                raise _OvertakenError
            reach(Failpoint.FILE_ENTERED)
        return self._file_id

    def open(self, table: Table) -> int:
        """The file's batch of a table, opened at first sight."""
        if table.name not in self.batches:
            self.batches[table.name] = open_batch(self._cursor, table, self._run.as_of, file_id=self.enter())
        return self.batches[table.name]

    def ids(self, table: Table) -> tuple[int, int]:
        """The batch and the file that each row of a table begins with."""
        return self.open(table), self.enter()

    def pipe(self, table: Table) -> CopyPipe:
        """COPY of a table's rows while they are read."""
        return CopyPipe(partial(self.copy, table), self.ids(table))

    def copy(self, table: Table, source: Any) -> None:
        """COPY of a table's rows."""
        self._cursor.copy_expert(copy_statement(table), source, CHUNK_BYTES)


@contextmanager
def _refusals(reading: files.Reading) -> Iterator[None]:
    """Refuse the file for what the warehouse says of a value of it."""
    try:
        yield
    except psycopg2.DataError as error:
        said = str(error).strip().splitlines()[0]
        raise RefusedContent(f"a value does not fit its column: {said}", reading) from error
    except psycopg2.IntegrityError as error:
        said = str(error).strip().splitlines()[0]
        raise RefusedContent(f"a row breaks its table's declaration: {said}", reading) from error


def _load_rows(
    cursor: Any, run: _Run, load: _Load, outcome: FileOutcome, reading: files.Reading, spools: Spools, forced: bool
) -> None:
    """Rows first, then the documents they belong to, then what that means for the versions that stood before."""
    file_id, batches = load.enter(), load.batches
    for table in spools.waiting():
        ids = load.ids(table)
        with _refusals(reading):
            load.copy(table, spools.stream(table.name, ids))
    again = documents.enter(cursor, file_id, reading)
    expected = {name: _expected(name, reading, spools) for name in batches}
    if again:
        comparison = documents.Comparison(cursor, file_id, again, batches, load.open)
        comparison.supersede(run.tables, reading, outcome.name, forced, run.as_of)
        for name in batches:
            gone = comparison.tombstones(run.tables[name])
            expected[name] = _with_tombstones(expected.get(name), gone)
    reach(Failpoint.DOCUMENTS_ENTERED)
    if STATEMENTS in batches and not forced:
        continuity.hold_unless_continuous(cursor, run.tables[STATEMENTS], file_id)
    for name, batch_id in batches.items():
        seal_batch(cursor, run.tables[name], batch_id, expected[name])
        _note_card_numbers(cursor, run, name, batch_id, file_id, outcome, spools.free_text.get(name))


def _note_card_numbers(
    cursor: Any, run: _Run, name: str, batch_id: int, file_id: int, outcome: FileOutcome, masked: FreeText | None
) -> None:
    if masked is None or not masked.rows:
        return
    note(
        cursor, source=FILES, table_name=name, kind="card_number", severity="fail",
        message=f"{masked.rows} lines of {outcome.name} have a card number in {', '.join(masked.columns)}: it was "
        "masked before it was stored. Ask the sender to leave card numbers out",
        as_of=run.as_of, batch_id=batch_id, file_id=file_id,
        observed={"rows": masked.rows, "columns": masked.columns},
    )  # fmt: skip


def _expected(name: str, reading: files.Reading, spools: Spools) -> Totals:
    amounts = {
        (measure, currency): (rows, int(total_minor))
        for (table, measure, currency), (rows, total_minor) in reading.totals.items()
        if table == name and rows
    }
    return Totals(spools.row_counts[name], spools.key_hashes[name], amounts)


def _with_tombstones(given: Totals | None, gone: Totals) -> Totals:
    """What the reader gave and the tombstones beside it."""
    given = given or Totals(0, 0, {})
    amounts = dict(given.amounts)
    for key, (rows, total_minor) in gone.amounts.items():
        before = amounts.get(key, (0, 0))
        amounts[key] = (before[0] + rows, before[1] + total_minor)
    return Totals(given.row_count + gone.row_count, given.key_hash + gone.key_hash, amounts)


def _refuse_stray_totals(reading: files.Reading, spools: Spools) -> None:
    """A total for a table without rows says that rows were lost on the way."""
    for (name, measure, currency), (rows, _) in reading.totals.items():
        if rows and not spools.row_counts.get(name):
            raise TotalsMismatchError(f"the total of {name}.{measure} in {currency} covers {rows} rows, none was given")


def _note_release(cursor: Any, run: _Run, file_id: int, before: Entry) -> None:
    assert before.release is not None
    _note(
        cursor, run, "released",
        f"{before.name} was loaded after {before.release.actor} released it ({before.release.reason}); "
        f"what had stood against it: {before.reason}", file_id,
    )  # fmt: skip


def _counted(reading: files.Reading | None) -> dict[str, Any]:
    """What was counted in the file, JSON-able."""
    if reading is None:
        return {}
    return {
        "balance": reading.balance,
        "signed_sum": dict(reading.signed_sum),
        "accounts": [storable(account) for account in reading.accounts],
        "documents": len(reading.documents),
    }


def _set_aside(
    run: _Run,
    outcome: FileOutcome,
    before: Entry | None,
    status: Status,
    reason: str,
    reading: files.Reading | None,
    place: dict[str, Any],
) -> FileOutcome:
    """Write down that a file was refused or is held, in a transaction of its own: nothing of it is loaded."""
    reason = _tellable(reason)
    try:
        with file_transaction(run.warehouse) as cursor:
            file_id = _enter(cursor, run, outcome, before)
            if file_id is not None:
                observed = {**_counted(reading), **place}
                file_register.settle(cursor, file_id, before, status, reason, reading, observed, run.as_of)
                reach(Failpoint.BEFORE_QUARANTINE)
    except BusyError as busy:
        return replace(outcome, reason=str(busy))
    if file_id is None:
        return _overtaken(run, outcome)
    reach(Failpoint.AFTER_QUARANTINE)
    said: Outcome = "held" if status == "held" else "quarantined"
    return replace(
        outcome, outcome=said, reason=reason, file_id=file_id, format=reading.format if reading else None,
        content_date=reading.content_date if reading else None,
    )  # fmt: skip
