"""What `make run` promises, on a small sandbox through a real Airflow: proven books, and a repeat changes nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psutil
import pytest

from tieout.local.machine import PORT_VARIABLES, PROJECT, Machine

PAYMENTS_PER_DAY = "60"
# A day of the walk takes seconds; a run that takes this long hangs.
TIMEOUT_S = 900
REPEAT_SECONDS_MAX = 30


def tieout(state: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in (*PORT_VARIABLES.values(), "COLUMNS")}
    return subprocess.run(
        [sys.executable, "-m", "tieout.cli", *arguments],
        env={**kept, "TIEOUT_STATE": str(state), "PYTHONPATH": str(PROJECT / "plugins")},
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def digest(state: Path) -> dict[str, str]:
    """A digest of every table of the warehouse, by name."""
    found = {}
    with (
        Machine(state).databases() as cluster,
        cluster.connect("warehouse") as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(
            "select format('%I.%I', schemaname, tablename) from pg_tables "
            "where schemaname not in ('pg_catalog', 'information_schema') order by 1"
        )
        for (table,) in cursor.fetchall():
            cursor.execute(f"select coalesce(string_agg(t::text, chr(10) order by t::text), '') from {table} t")
            (rows,) = cursor.fetchone() or ("",)
            found[table] = sha256(rows.encode()).hexdigest()
    return found


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A state folder in which the sandbox's days have been walked once."""
    folder = Path(tempfile.mkdtemp(prefix="tieout-test-", dir="/tmp"))
    try:
        first = tieout(folder / "state", "run", "--payments-per-day", PAYMENTS_PER_DAY)
        assert first.returncode == 0, first.stdout + first.stderr
        assert "The books are proven." in first.stdout
        yield folder / "state"
    finally:
        Machine(folder / "state").remove()
        shutil.rmtree(folder)


def test_nothing_is_left_running(state: Path) -> None:
    left = [
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if str(state) in " ".join(process.info["cmdline"] or [])
    ]
    assert left == []
    assert not Machine(state).cluster().running()
    assert not (state / "airflow" / "processes.json").exists()


def test_a_repeat_is_quick_and_changes_nothing(state: Path) -> None:
    before = digest(state)
    start = time.monotonic()
    again = tieout(state, "run", "--payments-per-day", PAYMENTS_PER_DAY)
    assert again.returncode == 0, again.stdout + again.stderr
    assert time.monotonic() - start < REPEAT_SECONDS_MAX
    assert "The books are proven." in again.stdout
    assert digest(state) == before


def test_another_size_is_refused(state: Path) -> None:
    other = tieout(state, "run", "--payments-per-day", "61")
    assert other.returncode == 2
    assert "make clean" in other.stderr


@pytest.mark.parametrize("day", ["2026-10-27", "2026-10-28", "2026-10-29", "2026-10-30"])
def test_every_close_has_a_proof_to_show(state: Path, day: str) -> None:
    shown = tieout(state, "proof", day)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "clearing" in shown.stdout
    assert " NO" not in shown.stdout


def test_a_day_without_a_close_has_none(state: Path) -> None:
    assert tieout(state, "proof", "2026-10-26").returncode == 2


def test_incidents_are_listed_with_their_messages(state: Path) -> None:
    shown = tieout(state, "incidents", "--all")
    assert shown.returncode == 0, shown.stderr
    assert "quarantine" in shown.stdout
    assert "kept" in shown.stdout


def test_books_that_do_not_hold_are_not_called_proven(state: Path) -> None:
    damage = "update accounting.proof_clearing set is_proven = {} where business_date = '2026-10-28'"
    with Machine(state).databases() as cluster:
        cluster.execute(damage.format("false"), "warehouse")
    try:
        shown = tieout(state, "status")
        assert shown.returncode == 1
        assert "NOT PROVEN" in shown.stdout
    finally:
        with Machine(state).databases() as cluster:
            cluster.execute(damage.format("true"), "warehouse")
