"""The walk through the sandbox's days: its order, how it continues, and how it says what went wrong."""

from __future__ import annotations

import os
import signal
import time
import urllib.error
import urllib.request
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from psycopg2.extensions import connection as Connection
from rich.console import Console

from tieout import sandbox
from tieout.local import walkthrough
from tieout.local.airflow_local import DagRun, TaskFailure
from tieout.local.machine import Machine, UsageError
from tieout.local.walkthrough import BOOK, Interrupted, RunError, explain, interruptible, left_to_do, legs, serve
from tieout.postgres import Cluster, free_port


class Books(Cluster):
    """A cluster whose warehouse is a test's database."""

    def __init__(self, cluster: Cluster, database: str) -> None:
        super().__init__(cluster.directory, cluster.port)
        self.database = database

    def connect(self, database: str = "postgres", user: str = "postgres", **options: Any) -> Any:
        return super().connect(self.database, user, **options)


@pytest.fixture
def books(cluster: Cluster, warehouse: Connection) -> Books:
    return Books(cluster, warehouse.info.dbname)


def publish(connection: Connection, days: list[date]) -> None:
    with connection, connection.cursor() as cursor:
        for day in days:
            cursor.execute(
                "with closed as (insert into ops.closes (book, business_date, generation, state, rules_digest, as_of) "
                "values (%s, %s, 1, 'published', '', now()) returning book, business_date, close_id) "
                "insert into ops.published select * from closed",
                (BOOK, day),
            )


def look(connection: Connection, as_of: Any) -> None:
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into ops.findings (check_name, subject, severity, message, as_of) values ('c', 's', 'ok', '', %s)",
            (as_of,),
        )


def test_an_opening_of_seven_days_and_then_day_by_day() -> None:
    walk = legs()
    assert [leg.opening for leg in walk] == [True, False, False, False]
    assert len(walk[0].days) == 7
    assert [leg.business_date for leg in walk] == [date(2026, 10, day) for day in (27, 28, 29, 30)]
    assert [day for leg in walk for day in leg.days] == list(sandbox.BUSINESS_DAYS)


def test_it_continues_after_the_last_published_day(books: Books, warehouse: Connection) -> None:
    days = [leg.business_date for leg in legs()]
    assert [leg.business_date for leg in left_to_do(books)] == days
    publish(warehouse, days[:2])
    assert [leg.business_date for leg in left_to_do(books)] == days[2:]


def test_the_last_evening_is_watched_before_all_is_done(books: Books, warehouse: Connection) -> None:
    days = [leg.business_date for leg in legs()]
    publish(warehouse, days)
    evening = sandbox.as_of(days[-1])
    assert [leg.business_date for leg in left_to_do(books)] == days[-1:]
    look(warehouse, evening - timedelta(seconds=1))
    assert [leg.business_date for leg in left_to_do(books)] == days[-1:]
    look(warehouse, evening)
    assert left_to_do(books) == []


def test_the_clock_of_checks_is_the_sandboxs(books: Books, warehouse: Connection) -> None:
    for day in (date(2026, 10, 28), date(2026, 10, 29)):
        walkthrough.set_clock(books, day)
        with warehouse, warehouse.cursor() as cursor:
            cursor.execute("select ops.as_of()")
            assert cursor.fetchone() == (sandbox.as_of(day),)


def test_with_an_own_payment_system_the_days_are_todays(
    books: Books, warehouse: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_PAYMENTS", raising=False)
    monkeypatch.delenv("TIEOUT_INGEST_SCHEDULE", raising=False)
    assert walkthrough.schedules_up() == {"TIEOUT_INGEST_SCHEDULE": ""}
    monkeypatch.setenv("TIEOUT_INGEST_SCHEDULE", "0 3 * * *")
    assert walkthrough.schedules_up() == {}
    monkeypatch.delenv("TIEOUT_INGEST_SCHEDULE")
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", "postgresql://me@127.0.0.1/shop")
    assert walkthrough.schedules_up() == {}
    walkthrough.set_clock(books, date(2026, 10, 28))
    walkthrough.clear_clock(books)
    with warehouse, warehouse.cursor() as cursor:
        cursor.execute("select ops.as_of() = now()")
        assert cursor.fetchone() == (True,)


def test_another_sandbox_than_the_one_here_is_refused(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "state")
    machine.settings.sandbox = {"payments_per_day": 2000, "seed": 1}
    with pytest.raises(UsageError, match=r"2,000 payments a day with seed 1, not 50 with seed 2.*make clean"):
        walkthrough.run(machine, 50, 2, Console(quiet=True))


class Failed:
    """An Airflow of which only the failures are asked."""

    def __init__(self, *tails: list[str]) -> None:
        self.tails = tails

    def failures(self, run: DagRun) -> list[TaskFailure]:
        return [TaskFailure(run.dag_id, run.run_id, "books", Path("/logs/1.log"), tail) for tail in self.tails]


FAILED_RUN = DagRun("close", "asset_triggered__1", "failed")


@pytest.mark.parametrize(("sign", "remedy"), walkthrough.REMEDIES.items())
def test_a_known_trouble_comes_with_its_remedy(sign: str, remedy: str) -> None:
    message = explain(Failed(["loading", f"Error: {sign}"]), FAILED_RUN)  # type: ignore[arg-type]
    assert "task books of close failed:\nloading" in message
    assert f"remedy: {remedy}" in message
    assert "whole log: /logs/1.log" in message


def test_an_unknown_trouble_shows_its_log_and_invents_no_remedy() -> None:
    message = explain(Failed(["ValueError: clearing adyen EUR is off by 3"]), FAILED_RUN)  # type: ignore[arg-type]
    assert "off by 3" in message
    assert "remedy:" not in message


def test_a_failure_without_a_failed_task_is_still_named() -> None:
    assert "asset_triggered__1" in explain(Failed(), FAILED_RUN)  # type: ignore[arg-type]


class Stuck:
    """An Airflow in which an asset starts nothing."""

    def runs(self, dag_id: str) -> list[DagRun]:
        return [DagRun(dag_id, "earlier", "success")]

    def check_alive(self) -> None:
        """It lives."""


def test_a_close_that_never_starts_is_an_error(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walkthrough, "ASSET_TIMEOUT_S", 0)
    with pytest.raises(RunError, match="no close of 2026-10-28 started"):
        walkthrough.wait_for_close(Stuck(), books, date(2026, 10, 28), {"earlier"}, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_an_exception_and_the_way_out_is_not_interrupted(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    cleaned = []

    def work() -> None:
        with interruptible():
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
                cleaned.append(True)

    with pytest.raises(Interrupted, match=number.name):
        work()
    assert cleaned
    assert signal.getsignal(number) == before


def test_the_docs_are_served_from_their_folder_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("password")
    site = tmp_path / "docs"
    site.mkdir()
    (site / "index.html").write_text("<h1>docs</h1>")
    with serve(site, free_port()) as address:
        assert urllib.request.urlopen(address, timeout=5).read() == b"<h1>docs</h1>"
        for path in ("/../secret", "/%2e%2e/secret"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + path, timeout=5)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address, timeout=5)
