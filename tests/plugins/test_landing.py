"""The landing: each content once, proven, or quarantined whole; a bad file never stops the others."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import pytest

from tests.plugins.desk import ADYEN_HEADER, AS_OF, FIXTURES, ROOT, Desk, adyen, rates, statement
from tieout import files
from tieout.business_days import BusinessCalendar
from tieout.files.proof import Document, block_of
from tieout.landing import register
from tieout.landing.arrivals import LandingError
from tieout.landing.load import load_landing
from tieout.postgres import Cluster
from tieout.watch import checks

CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import psycopg2
from tieout.landing.load import load_landing
from tieout.sources import load_registry
landing, warehouse, project = sys.argv[1:]
as_of = datetime(2026, 10, 28, tzinfo=UTC)
load_landing(Path(landing), psycopg2.connect(warehouse), load_registry(Path(project)), as_of)
"""


ENTRY = (
    1, 1, "NL01", date(2026, 10, 27), date(2026, 10, 28), -1250, "EUR", False, None, "ref\t1", "a\\b", "C\nD",
    'say "hi" \\N ✓', '{"text":"tab\t, back\\slash, \\"quote\\", ✓"}', "0123456789abcdef0123456789abcdef",
)  # fmt: skip
STATEMENT = (
    1, "NL01", "EUR", "S1", 7, date(2026, 10, 26), 5000, date(2026, 10, 27), 3750, "fedcba9876543210fedcba9876543210",
)  # fmt: skip
BANK_READING = files.Reading(
    format="fake", origin="bank", origin_account="NL01", content_date=date(2026, 10, 27),
    documents=(Document("bank_statement", "NL01|EUR|S1", 1),), statements=1, entries=1,
    totals={
        ("bank_statements", "opening_minor", "EUR"): (1, 5000),
        ("bank_statements", "closing_minor", "EUR"): (1, 3750),
        ("bank_entries", "amount_minor", "EUR"): (1, -1250),
    },
)  # fmt: skip


def read_as(
    monkeypatch: pytest.MonkeyPatch, rows: list[tuple[str, tuple[Any, ...]]], reading: files.Reading = BANK_READING
) -> None:
    """Let every file read as the same rows."""

    def read(path: Path, sink: files.Sink) -> files.Reading:
        for table, row in rows:
            sink(table, block_of(table, [row]))
        return reading

    monkeypatch.setattr(files, "read", read)


def test_a_file_is_loaded_with_its_manifest_and_totals(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    read_as(monkeypatch, [("bank_statements", STATEMENT), ("bank_entries", ENTRY)])
    path = desk.put("bank/s1.xml", "one statement")
    (outcome,) = desk.run()
    assert (outcome.name, outcome.outcome, outcome.format) == ("s1.xml", "loaded", "fake")
    assert outcome.row_counts == {"bank_statements": 1, "bank_entries": 1}
    digest = hashlib.sha256(b"one statement").hexdigest()
    assert desk.ask(
        "select file_id, sha256, name, uri, size_bytes, format, status, reason, origin, origin_account, content_date, "
        "statement_count, entry_count, seen_at from ops.files"
    ) == [
        (outcome.file_id, digest, "s1.xml", str(path), 13, "fake", "loaded", None, "bank", "NL01", date(2026, 10, 27),
         1, 1, AS_OF)
    ]  # fmt: skip
    assert desk.ask("select kind, identity, version, file_id, document_no, superseded_by from ops.documents") == [
        ("bank_statement", "NL01|EUR|S1", 1, outcome.file_id, 1, None)
    ]
    assert desk.ask(
        "select source, table_name, row_count, content_until::date, as_of, file_id, interval_end from ops.batches "
        "order by table_name"
    ) == [
        ("files", "bank_entries", 1, date(2026, 10, 27), AS_OF, outcome.file_id, None),
        ("files", "bank_statements", 1, date(2026, 10, 27), AS_OF, outcome.file_id, None),
    ]
    assert desk.ask("select measure, currency, row_count, sum_minor from ops.batch_totals order by 1") == [
        ("amount_minor", "EUR", 1, -1250),
        ("closing_minor", "EUR", 1, 3750),
        ("opening_minor", "EUR", 1, 5000),
    ]
    (row,) = desk.ask("select * from raw.bank_entries")
    assert row[1:] == (False, outcome.file_id, *ENTRY)


def test_a_real_file_is_read_by_its_reader(desk: Desk) -> None:
    desk.put("ecb.csv", rates(26, 27))
    (outcome,) = desk.run()
    assert (outcome.outcome, outcome.row_counts) == ("loaded", {"fx_rates": 4})
    assert desk.ask("select rate from raw.fx_rates where currency = 'JPY' and rate_date = '2026-10-27'") == [
        (Decimal("180.25"),)
    ]


def test_an_empty_landing_is_fine_and_a_missing_one_is_named(desk: Desk) -> None:
    assert desk.run() == []
    with pytest.raises(LandingError, match=r"nowhere is no folder: create it, or point TIEOUT_LANDING"):
        desk.run(desk.folder / "nowhere")


def test_the_order_is_that_of_the_paths_and_unfinished_names_are_passed_over(desk: Desk) -> None:
    for name in ("z/a.csv", "b.csv", "a.csv", "c.csv.tmp", "d.part", ".hidden", ".folder/e.csv"):
        desk.put(name, rates(27, usd=f"1.{len(name)}{ord(name[0])}"))
    assert [Path(outcome.uri).relative_to(desk.folder).as_posix() for outcome in desk.run()] == [
        "a.csv", "b.csv", "z/a.csv",
    ]  # fmt: skip


def test_the_same_bytes_are_known_under_any_name(desk: Desk) -> None:
    desk.put("a.csv", rates(27))
    desk.run()
    before = desk.traces()
    desk.put("again.csv", rates(27))
    first, second = desk.run()
    assert (first.outcome, second.outcome) == ("known", "known")
    assert first.file_id == second.file_id is not None
    assert "(a.csv), loaded" in str(second.reason)
    assert desk.traces() == before


def test_a_bad_file_is_quarantined_once_and_does_not_stop_the_others(desk: Desk) -> None:
    desk.put("a.csv", b"\x00\x01 no format at all")
    desk.put("b.csv", rates(27))
    first, second = desk.run()
    assert (first.outcome, second.outcome) == ("quarantined", "loaded")
    assert "no reader recognises this file" in str(first.reason)
    assert desk.ask("select name, status, reason from ops.files where file_id = %s", first.file_id) == [
        ("a.csv", "quarantined", first.reason)
    ]
    assert desk.traces() == {
        "ops.files": 2, "ops.documents": 1, "ops.batches": 1, "raw.fx_rates": 2,
    }  # fmt: skip
    again, _ = desk.run()
    assert (again.outcome, again.file_id) == ("known", first.file_id)
    assert "quarantined: " in str(again.reason)


def test_a_truncated_file_leaves_its_reason_and_the_whole_one_is_loaded(desk: Desk) -> None:
    whole = rates(26, 27)
    desk.put("a.csv", whole[:-12])
    (cut,) = desk.run()
    assert cut.outcome == "quarantined"
    assert set(desk.traces()) == {"ops.files"}
    desk.put("a.csv", whole)
    (sent_again,) = desk.run()
    assert sent_again.outcome == "loaded"


def test_a_rejection_after_rows_leaves_no_row(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, sink: files.Sink) -> files.Reading:
        for _ in range(1000):
            sink("bank_entries", block_of("bank_entries", [ENTRY]))
        raise files.Rejected("closing balance is off by 0.01", reading=BANK_READING)

    monkeypatch.setattr(files, "read", read)
    desk.put("a.xml", "x")
    (outcome,) = desk.run()
    assert outcome.outcome == "quarantined"
    assert desk.traces() == {"ops.files": 1}
    assert desk.ask("select origin_account, entry_count from ops.files") == [("NL01", 1)]


def test_rates_that_come_again_are_a_new_version_and_what_changed_is_said(desk: Desk) -> None:
    desk.put("a.csv", rates(27))
    desk.put("b.csv", rates(27, usd="1.2"))
    first, second = desk.run()
    assert (first.outcome, second.outcome) == ("loaded", "loaded")
    assert desk.ask("select version, file_id, superseded_by from ops.documents order by version") == [
        (1, first.file_id, second.file_id), (2, second.file_id, None)
    ]  # fmt: skip
    ((message, observed),) = desk.ask("select message, observed from ops.load_notes where kind = 'file_superseded'")
    assert "b.csv takes the place of 1 document(s) of a.csv" in message
    assert (observed["changed"], observed["unchanged"], observed["vanished"]) == (1, 1, 0)


def test_a_file_in_which_a_document_stands_twice_is_quarantined(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    twice = files.Reading(documents=(Document("bank_statement", "x", 1), Document("bank_statement", "x", 2)))
    read_as(monkeypatch, [("bank_statements", STATEMENT)], twice)
    desk.put("a.xml", "x")
    (outcome,) = desk.run()
    assert (outcome.outcome, "stands in this file twice" in str(outcome.reason)) == ("quarantined", True)
    assert desk.traces() == {"ops.files": 1}


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (1, 2**31, "does not fit its column"),
        (11, "a\x00b", "row 1: text holds a NUL"),
        (2, None, "breaks its table's declaration"),
    ],
)
def test_values_that_cannot_be_stored_quarantine_their_file(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, column: int, value: Any, said: str
) -> None:
    row = list(ENTRY)
    row[column] = value
    read_as(monkeypatch, [("bank_entries", tuple(row))], files.Reading())
    desk.put("a.xml", "x")
    (outcome,) = desk.run()
    assert outcome.outcome == "quarantined"
    assert said in str(outcome.reason)
    assert desk.traces() == {"ops.files": 1}


@pytest.mark.parametrize("value", [12.5, object(), Decimal("NaN"), datetime(2026, 10, 27)])
def test_an_inexact_value_fails_the_file_and_is_tried_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, value: Any
) -> None:
    read_as(monkeypatch, [("bank_entries", (*ENTRY[:5], value, *ENTRY[6:]))])
    desk.put("a.xml", "x")
    assert desk.outcomes() == {"a.xml": "failed"}
    assert desk.traces() == {}
    read_as(monkeypatch, [("bank_statements", STATEMENT), ("bank_entries", ENTRY)])
    assert desk.outcomes() == {"a.xml": "loaded"}


def test_a_reader_that_breaks_on_one_file_does_not_stop_the_others(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.read

    def read(path: Path, sink: files.Sink) -> files.Reading:
        if path.name == "a.csv":
            raise RecursionError("too deep")
        return real(path, sink)

    monkeypatch.setattr(files, "read", read)
    desk.put("a.csv", rates(26))
    desk.put("b.csv", rates(27))
    first, second = desk.run()
    assert (first.outcome, second.outcome) == ("failed", "loaded")
    assert "RecursionError: too deep" in str(first.reason)


@pytest.mark.parametrize(
    ("totals", "said"),
    [
        ({("bank_entries", "amount_minor", "EUR"): (1, -1251)}, r"amount_minor in EUR: .* sum -1251; .* sum -1250"),
        ({("bank_entries", "amount_minor", "EUR"): (2, -1250)}, r"2 rows, .* 1 rows"),
        ({("bank_entries", "amount_minor", "USD"): (1, -1250)}, r"in EUR: .* 0 rows.* in USD: "),
        ({}, r"amount_minor in EUR: at the source 0 rows"),
        ({**BANK_READING.totals}, "bank_statements.* covers 1 rows, none was given"),
    ],
)
def test_raw_that_differs_from_the_readers_totals_is_rolled_back(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, totals: Any, said: str
) -> None:
    read_as(monkeypatch, [("bank_entries", ENTRY)], files.Reading(totals=totals))
    desk.put("a.xml", "x")
    (outcome,) = desk.run()
    assert outcome.outcome == "failed"
    assert re.search(said, str(outcome.reason)), outcome.reason
    assert desk.traces() == {}


@pytest.mark.parametrize(("damage", "said"), [("return null", "row count"), ("new.currency := 'XXX'", "key hash")])
def test_raw_that_loses_or_changes_a_row_is_rolled_back(desk: Desk, damage: str, said: str) -> None:
    desk.ask(
        f"create function raw.damage() returns trigger language plpgsql as $$ begin if new.currency = 'JPY' then "
        f"{damage}; end if; return new; end $$; "
        "create trigger damage before insert on raw.fx_rates for each row execute function raw.damage(); select 1"
    )
    desk.put("a.csv", rates(27))
    (outcome,) = desk.run()
    assert (outcome.outcome, said in str(outcome.reason)) == ("failed", True), outcome.reason
    assert desk.traces() == {}


class Moving:
    """A path whose file changes while it is copied."""

    def __init__(self, path: Path, change: Callable[[], None]) -> None:
        self._path = path
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._path, name)

    def __str__(self) -> str:
        return str(self._path)

    def open(self, mode: str) -> Any:
        self._change()
        return self._path.open(mode)


class Folder:
    """A landing that holds the given paths."""

    def __init__(self, *paths: Any) -> None:
        self._paths = paths

    def is_dir(self) -> bool:
        return True

    def iterdir(self) -> Iterator[Any]:
        return iter(self._paths)


@pytest.mark.parametrize("vanishes", [False, True])
def test_a_file_that_grows_or_vanishes_waits(desk: Desk, vanishes: bool) -> None:
    path = desk.put("a.csv", rates(26))
    change = path.unlink if vanishes else (lambda: path.write_text(rates(26, 27)) and None)
    (outcome,) = desk.run(Folder(Moving(path, change)))
    assert outcome.outcome == "waiting"
    assert ("went away" if vanishes else "still being written") in str(outcome.reason)
    assert desk.traces() == {}
    if not vanishes:
        assert desk.outcomes() == {"a.csv": "loaded"}


def test_a_file_that_cannot_be_read_fails_alone(desk: Desk) -> None:
    def refuse() -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    bad = Moving(desk.put("a.csv", rates(26)), refuse)
    outcomes = desk.run(Folder(bad, desk.put("b.csv", rates(27))))
    assert [outcome.outcome for outcome in outcomes] == ["failed", "loaded"]
    assert "Check its permissions" in str(outcomes[0].reason)


def test_missing_empty_and_header_only_are_three_things(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 42: each is seen, and none looks like the other."""
    calendar = BusinessCalendar(ZoneInfo("Europe/Amsterdam"), "EUR", {"EUR": frozenset({6, 7})}, frozenset())
    monkeypatch.setattr(checks, "read_calendar", lambda *_: calendar)

    def freshness() -> str:
        found = checks.run_checks(desk.warehouse, desk.registry, AS_OF, [checks.load_freshness])
        (lines,) = (finding for finding in found if finding.subject == "files.settlement_lines")
        return f"{lines.severity}: {lines.message}"

    file_notes = "select kind, severity, message, file_id from ops.load_notes order by note_id"
    # Nothing there: nothing happens, and the check of freshness tells.
    assert desk.run() == []
    assert freshness() == "fail: was never loaded"
    assert (desk.traces(), desk.ask(file_notes)) == ({}, [])
    desk.put("adyen.csv", "")
    for seen in (1, 2):
        (outcome,) = desk.run()
        assert (outcome.outcome, outcome.file_id) == ("empty", None)
        assert [(kind, file_id) for kind, _, _, file_id in desk.ask(file_notes)] == [("empty", None)] * seen
    assert desk.traces() == {}
    desk.put("adyen.csv", ADYEN_HEADER + "\n")
    (outcome,) = desk.run()
    assert (outcome.outcome, outcome.row_counts) == ("loaded", {})
    assert desk.traces() == {"ops.files": 1}
    assert desk.ask("select status, entry_count, format from ops.files") == [("loaded", 0, "adyen.settlement_details")]
    assert desk.ask(file_notes)[2:] == [
        ("header_only", "warn", "adyen.csv has a header and no line: ask the sender if there was nothing to report",
         outcome.file_id)
    ]  # fmt: skip
    assert desk.outcomes() == {"adyen.csv": "known"}
    assert len(desk.ask(file_notes)) == 3
    # A header is no report of the day: what is late goes on being late.
    assert freshness() == "fail: was never loaded"
    desk.put("adyen.csv", adyen({1: [("A", 100)]}))
    assert desk.outcomes() == {"adyen.csv": "loaded"}
    assert freshness().startswith("ok: last loaded 0.0 h ago")


def test_a_line_without_end_stops_in_little_memory(desk: Desk, tmp_path: Path) -> None:
    """FAULTS 57: in every kind of format; a gigabyte of it when TIEOUT_FAULTS is long."""
    size = (1024 if os.environ.get("TIEOUT_FAULTS") == "long" else 136) << 20
    heads = {
        "adyen.csv": ADYEN_HEADER + "\n",
        "camt.xml": (FIXTURES / "camt053.xml").read_text(encoding="utf-8").partition("<Ustrd>")[0] + "<Ustrd>",
        "mt940.sta": (FIXTURES / "mt940.sta").read_text(encoding="utf-8").partition(":86:")[0] + ":86:",
        "mollie.json": (FIXTURES / "mollie.json").read_text(encoding="utf-8").partition('"id": "')[0] + '"id": "',
    }
    line = b"x" * (1 << 20)
    for name, head in heads.items():
        with (desk.folder / name).open("wb") as file:
            file.write(head.encode())
            for _ in range(size >> 20):
                file.write(line)
    scratch = tmp_path / "scratch of the capped"
    scratch.mkdir()
    code = "import resource; resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))\n" + CHILD
    done = subprocess.run(
        [sys.executable, "-c", code, str(desk.folder), desk.warehouse.dsn, str(ROOT / "dbt_project")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins"), "TMPDIR": str(scratch)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(desk.ask("select name, status from ops.files")) == {(name, "quarantined") for name in heads}
    assert set(desk.traces()) == {"ops.files"}


def test_a_file_without_bytes_is_told_apart_and_not_remembered(desk: Desk) -> None:
    desk.put("a.csv", "")
    assert desk.outcomes() == {"a.csv": "empty"}
    assert desk.traces() == {}
    desk.put("a.csv", rates(27))
    assert desk.outcomes() == {"a.csv": "loaded"}


def test_a_name_that_is_no_utf8_is_recorded_escaped(desk: Desk) -> None:
    (desk.folder / os.fsdecode(b"caf\xe9.csv")).write_text("nonsense")
    (outcome,) = desk.run()
    assert (outcome.outcome, outcome.name) == ("quarantined", "caf\\udce9.csv")


def test_a_full_disk_is_named_and_the_rest_comes_later(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(path: Path, sink: files.Sink) -> files.Reading:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = files.read
    monkeypatch.setattr(files, "read", read)
    desk.put("a.csv", rates(27))
    with pytest.raises(OSError, match=r"No space left on device.*Free some space there, or point TMPDIR"):
        desk.run()
    assert desk.traces() == {}
    monkeypatch.setattr(files, "read", real)
    assert desk.outcomes() == {"a.csv": "loaded"}


def test_an_airflow_path_is_read_like_a_folder(desk: Desk) -> None:
    from airflow.sdk import ObjectStoragePath

    desk.put("ecb/a.csv", rates(27))
    (outcome,) = desk.run(ObjectStoragePath(desk.folder.as_uri()))
    assert (outcome.outcome, outcome.name) == ("loaded", "a.csv")


def test_an_autocommitting_connection_still_loads_all_or_nothing(desk: Desk) -> None:
    desk.warehouse.autocommit = True
    desk.ask("alter table raw.fx_rates add constraint no_yen check (currency <> 'JPY'); select 1")
    desk.put("a.csv", rates(27))
    (outcome,) = desk.run()
    assert outcome.outcome == "quarantined"
    assert desk.traces() == {"ops.files": 1}


def test_the_loaders_rights_are_enough(desk: Desk, cluster: Cluster) -> None:
    desk.put("a.csv", rates(27))
    desk.put("b.csv", "nonsense")
    with cluster.connect(desk.warehouse.info.dbname, "loader") as loader:
        outcomes = load_landing(desk.folder, loader, desk.registry, AS_OF)
    assert [outcome.outcome for outcome in outcomes] == ["loaded", "quarantined"]


@pytest.mark.parametrize("what", ["the file", "its documents", "the file that was held"])
def test_a_file_that_another_run_holds_on_to_waits(desk: Desk, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """FAULTS 11: a twin that hangs must not make this run hang with it; the next run takes the file."""
    path = desk.put("1.sta", statement(1, 0, 5))
    if what == "the file that was held":
        desk.put("0.sta", statement(3, 9, 1))
        path = desk.put("1.sta", statement(4, 5, 1))
        assert desk.outcomes() == {"0.sta": "loaded", "1.sta": "held"}
    hold = {
        "the file": "insert into ops.files (sha256, name, uri, size_bytes, status, reason, seen_at) "
        f"values ('{hashlib.sha256(path.read_bytes()).hexdigest()}', 'x', 'x', 1, 'held', 'x', now())",
        "its documents": "select pg_advisory_xact_lock(hashtextextended('ops.documents', 0))",
        "the file that was held": "select * from ops.files where status = 'held' for update",
    }[what]
    monkeypatch.setattr(register, "LOCK_TIMEOUT_S", 0.2)
    other = psycopg2.connect(desk.warehouse.dsn)
    try:
        with other.cursor() as cursor:
            cursor.execute(hold)
        before = desk.traces()
        outcome = desk.run()[-1]
        assert outcome.outcome == "waiting"
        assert "another run has held this file, or documents that it brings, for more than 0.2 s" in str(outcome.reason)
        assert desk.traces() == before
    finally:
        other.close()
    assert desk.outcomes()["1.sta"] == ("held" if what == "the file that was held" else "loaded")


def test_two_runs_load_a_file_once(desk: Desk) -> None:
    for day in range(10, 28):
        desk.put(f"{day}.csv", rates(day))
    gate = threading.Barrier(2)

    def go() -> list[str]:
        connection = psycopg2.connect(desk.warehouse.dsn)
        try:
            gate.wait()
            return [outcome.outcome for outcome in load_landing(desk.folder, connection, desk.registry, AS_OF)]
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        runs = [run.result() for run in [threads.submit(go), threads.submit(go)]]
    assert all(sorted(pair) == ["known", "loaded"] for pair in zip(*runs, strict=True))
    assert desk.traces()["raw.fx_rates"] == 36


def test_a_killed_load_leaves_nothing_and_one_rerun_loads_once(desk: Desk, tmp_path: Path) -> None:
    # Raw takes a twentieth of a second a row, so the kill falls into the COPY.
    desk.ask(
        "create function raw.dawdle() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.05); return new; end $$; "
        "create trigger dawdle before insert on raw.fx_rates for each row execute function raw.dawdle(); select 1"
    )
    desk.put("a.csv", rates(*range(10, 28)))
    scratch = tmp_path / "scratch of the killed"
    scratch.mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(desk.folder), desk.warehouse.dsn, str(ROOT / "dbt_project")],
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins"), "TMPDIR": str(scratch)},
    )
    deadline = time.monotonic() + 30
    while not desk.ask("select 1 from pg_stat_progress_copy where command = 'COPY FROM' and tuples_processed > 2"):
        assert child.poll() is None, "the load ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert desk.traces() == {}
    desk.ask("drop trigger dawdle on raw.fx_rates; select 1")
    assert desk.outcomes() == {"a.csv": "loaded"}
    assert desk.traces() == {"ops.files": 1, "ops.documents": 1, "ops.batches": 1, "raw.fx_rates": 36}
