"""The Airflow face: bad arguments, missing connections, and each operator against a real warehouse."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
import psycopg2.errors
import pytest
from airflow.sdk import Asset, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from psycopg2.extensions import connection as Connection

from tieout import close, operators, reclose
from tieout.close import Close, CloseNotProven, StepResult
from tieout.dbt_runner import NodeResult
from tieout.landing import arrivals
from tieout.landing import load as landing
from tieout.landing.load import FileOutcome
from tieout.operators import (
    BuildCloseOperator,
    ExtractSnapshotOperator,
    LoadFilesOperator,
    OpenCloseOperator,
    PublishCloseOperator,
    RecloseOperator,
)
from tieout.postgres import Cluster
from tieout.reclose import Reclosing
from tieout.sources import default_project, load_registry
from tieout.watch import operators as watch_operators
from tieout.watch.operators import CheckOperator, DeliverAlertsOperator

AS_OF = datetime(2026, 10, 30, 4, tzinfo=UTC)
RUN = SimpleNamespace(run_after=AS_OF)
CLOSE = {"close_id": 7, "fencing_token": 3, "state": "running"}
SEEDS = {
    "books": "book text, zone text, reporting_currency text, first_entry_business_date date, rate_age_days_max integer",
    "calendars": "calendar text, weekend_first_iso_day integer, weekend_second_iso_day integer",
    "holidays": "calendar text, holiday date, holiday_name text",
}
# What would do harm if it were rendered, executed or put into SQL.
HOSTILE = [
    "{{ 1/0 }}",
    "2026-10-28'; drop schema raw cascade; --",
    "$(id)",
    "../../etc/passwd",
    "2026-13-01",
    "yesterday",
]


@pytest.fixture
def ready(warehouse: Connection, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """A warehouse whose roles can log in, with the seeds the operators read and the sandbox's clock."""
    with warehouse, warehouse.cursor() as cursor:
        cursor.execute("create schema rules; grant usage on schema rules to loader")
        for name, columns in SEEDS.items():
            cursor.execute(f"create table rules.{name} ({columns}); grant select on rules.{name} to loader")
            with (default_project() / "seeds" / f"{name}.csv").open() as file:
                cursor.copy_expert(f"copy rules.{name} from stdin (format csv, header match)", file)
        cursor.execute("insert into ops.clock (as_of) values (%s)", (AS_OF,))
        cursor.execute("alter role loader login; alter role publisher login")
    name = warehouse.info.dbname
    for conn_id, role in (("WAREHOUSE_LOADER", "loader"), ("WAREHOUSE_PUBLISHER", "publisher")):
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id}", cluster.dsn(name, role))
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BUILDER", "postgresql://builder:s%40cret@db.example:5433/warehouse")
    monkeypatch.delenv("AIRFLOW_CONN_SLACK", raising=False)
    return warehouse


def fetch(connection: Connection, statement: str) -> list[tuple[Any, ...]]:
    with connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


# --- construction


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ExtractSnapshotOperator(task_id="t", source_name="pay ments"), "source_name must be a name"),
        (lambda: ExtractSnapshotOperator(task_id="t", source_name="p", book=""), "book must be a name"),
        (lambda: LoadFilesOperator(task_id="t", landing="/data/landing"), "file:///data/landing"),
        (lambda: OpenCloseOperator(task_id="t", warehouse_conn_id="a b"), "warehouse_conn_id must be a name"),
        (lambda: BuildCloseOperator(task_id="t", step="all", close={}), "reconcile, books, monitoring"),
        (lambda: DeliverAlertsOperator(task_id="t", limit=0), "limit must be at least 1"),
    ],
)
def test_bad_arguments_are_refused_at_construction(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_steps_are_the_closes() -> None:
    assert set(operators.STEPS) == set(close.STEPS)


@pytest.mark.parametrize(
    "operator",
    [
        thing
        for module in (operators, watch_operators)
        for thing in vars(module).values()
        if isinstance(thing, type) and thing.__module__ == module.__name__
    ],
)
def test_operators_document_every_argument_and_take_keywords_only(operator: type[BaseOperator]) -> None:
    taken = operator.__init__.__wrapped__ if hasattr(operator.__init__, "__wrapped__") else operator.__init__
    code = taken.__code__
    keywords = code.co_varnames[1 : 1 + code.co_kwonlyargcount]
    assert code.co_argcount == 1
    assert keywords
    for name in keywords:
        assert f":param {name}:" in (operator.__doc__ or ""), name
    assert set(operator.template_fields) <= set(keywords)


# --- connections


def test_a_missing_connection_says_how_to_add_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_WAREHOUSE_LOADER", raising=False)
    with pytest.raises(AirflowFailException, match="airflow connections add warehouse_loader --conn-uri") as caught:
        CheckOperator(task_id="t").execute({})
    assert "AIRFLOW_CONN_WAREHOUSE_LOADER" in str(caught.value)


def test_a_connection_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_LOADER", "mysql://u:geheim@h/d")
    with pytest.raises(AirflowFailException, match="must be a Postgres") as caught:
        CheckOperator(task_id="t").execute({})
    assert "geheim" not in str(caught.value)


def test_a_warehouse_that_is_down_is_named_and_may_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_LOADER", "postgresql://u:geheim@127.0.0.1:1/d")
    with pytest.raises(AirflowException, match=r"127\.0\.0\.1:1") as caught:
        CheckOperator(task_id="t").execute({})
    assert not isinstance(caught.value, AirflowFailException)
    assert "geheim" not in str(caught.value)


def test_extras_such_as_sslmode_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_X", "postgresql://u:p@h:5433/d?sslmode=require&host=evil")
    assert operators.postgres_arguments("x") == {
        "host": "h", "port": 5433, "user": "u", "password": "p", "dbname": "d", "sslmode": "require",
    }  # fmt: skip


# --- dates


def interval(connection: Connection, day: Any = "", start: Any = "", **context: Any) -> tuple[str, str, str]:
    given: Any = {"dag_run": RUN, **context}
    found = operators.resolve_interval(given, connection, "global", day, start)
    return str(found[0]), found[1].isoformat(), found[2].isoformat()


def test_the_interval_of_a_day_is_the_books_day(ready: Connection) -> None:
    usual = ("2026-10-28", "2026-10-28T00:00:00+01:00", "2026-10-29T00:00:00+01:00")
    assert interval(ready, "2026-10-28") == usual
    assert interval(ready, "2026-10-25") == ("2026-10-25", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00")


def test_without_a_date_it_is_the_day_before_the_run_in_the_books_zone(ready: Connection) -> None:
    assert interval(ready)[0] == "2026-10-29"
    # 23:30 UTC is the next day in Amsterdam already.
    assert interval(ready, data_interval_end=datetime(2026, 10, 28, 23, 30, tzinfo=UTC))[0] == "2026-10-28"
    assert interval(ready, data_interval_end=datetime(2026, 10, 28, 22, 30, tzinfo=UTC))[0] == "2026-10-27"


def test_an_opening_interval_starts_where_it_is_told(ready: Connection) -> None:
    start = "2026-10-19T00:00:00+02:00"
    expected = ("2026-10-27", start, "2026-10-28T00:00:00+01:00")
    assert interval(ready, "2026-10-27", start) == expected
    assert interval(ready, "2026-10-27", "2026-10-19T00:00:00") == expected
    with pytest.raises(AirflowFailException, match="lies after the end"):
        interval(ready, "2026-10-18", start)


@pytest.mark.parametrize("day", ["2026-10-30", "2062-10-28"])
def test_a_day_that_has_not_ended_is_neither_loaded_nor_closed(ready: Connection, day: str) -> None:
    said = f"business_date {day} has not ended.*2026-10-30 05:00.*Ask for 2026-10-29"
    with pytest.raises(AirflowFailException, match=said):
        interval(ready, day)
    with pytest.raises(AirflowFailException, match=said):
        OpenCloseOperator(task_id="t", business_date=day).execute({})
    assert fetch(ready, "select count(*) from ops.closes") == [(0,)]


def test_today_is_the_books(ready: Connection) -> None:
    # 22:59 UTC is the last minute of the 28th in Amsterdam.
    clock = "update ops.clock set as_of = '2026-10-28 {} UTC' returning 1"
    fetch(ready, clock.format("22:59"))
    with pytest.raises(AirflowFailException, match="2026-10-28 has not ended"):
        interval(ready, "2026-10-28")
    fetch(ready, clock.format("23:00"))
    assert interval(ready, "2026-10-28")[0] == "2026-10-28"


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_parameters_are_refused_as_dates(ready: Connection, value: str) -> None:
    with pytest.raises(AirflowFailException, match="business_date must be a date"):
        interval(ready, value)
    with pytest.raises(AirflowFailException, match="interval_start must be a time"):
        interval(ready, "2026-10-28", value)
    with pytest.raises(AirflowFailException, match="business_date must be a date"):
        OpenCloseOperator(task_id="t", business_date=value).execute({})
    assert fetch(ready, "select count(*) from raw.payments_captures") == [(0,)]


# --- ingest


@pytest.fixture
def payment_system(cluster: Cluster, database: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty payment system with every declared table; the name of its database."""
    name = database("payments")
    with cluster.connect(name) as connection, connection.cursor() as cursor:
        for table in load_registry().source("payments").tables:
            columns = ", ".join(f"{column.name} {column.data_type}" for column in table.columns)
            cursor.execute(f"create schema if not exists {table.source_schema}")
            cursor.execute(f"create table {table.source_schema}.{table.name} ({columns})")
        cursor.execute(
            "insert into payments.merchants values ('m1', 'Moon', 'NL', 'principal', 'EUR', 0, now(), now())"
        )
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", cluster.dsn(name))
    return name


def extract(business_date: str = "2026-10-29", **context: Any) -> dict[str, Any]:
    operator = ExtractSnapshotOperator(task_id="t", source_name="payments", business_date=business_date)
    return operator.execute({"dag_run": RUN, **context})  # type: ignore[typeddict-item]


def test_a_snapshot_is_loaded_once(ready: Connection, payment_system: str) -> None:
    assert extract()["rows"] == 1
    assert extract()["rows"] == 0
    assert fetch(ready, "select merchant_id from raw.payments_merchants") == [("m1",)]
    assert fetch(ready, "select distinct as_of, interval_end from ops.batches") == [
        (AS_OF, datetime(2026, 10, 29, 23, tzinfo=UTC))
    ]


def test_a_table_that_lost_a_column_fails_the_task_and_the_others_are_loaded(
    ready: Connection, payment_system: str, cluster: Cluster
) -> None:
    cluster.execute("alter table payments.captures drop column currency", payment_system)
    with pytest.raises(AirflowFailException, match=r"1 of \d+ tables of payments were left out: .*captures.*currency"):
        extract()
    assert fetch(ready, "select merchant_id from raw.payments_merchants") == [("m1",)]
    assert fetch(ready, "select count(*) from ops.batches where table_name = 'captures'") == [(0,)]


def test_a_choice_of_tables_is_loaded_and_no_close_follows(ready: Connection, payment_system: str) -> None:
    params = {"tables": ["merchants", "payouts"], "accept_deletions": None}
    assert extract(params=params)["rows"] == 1
    assert fetch(ready, "select table_name from ops.batches order by 1") == [("merchants",), ("payouts",)]
    with pytest.raises(AirflowSkipException, match="chosen tables only"):
        load({"params": params})
    # The rest of the interval, later.
    assert extract(params={"tables": []})["rows"] == 0
    assert fetch(ready, "select count(*) from ops.batches") == [(len(load_registry().source("payments").tables),)]


@pytest.mark.parametrize("parameter", ["tables", "accept_deletions"])
@pytest.mark.parametrize("value", [*([text] for text in HOSTILE), "merchants", 7, {"mer chants": 1}, [None], [["x"]]])
def test_hostile_names_of_tables_are_refused(
    ready: Connection, payment_system: str, parameter: str, value: Any
) -> None:
    with pytest.raises(AirflowFailException, match=f"{parameter}: no source has|{parameter} must be a list"):
        extract(params={parameter: value})
    assert fetch(ready, "select count(*) from ops.batches") == [(0,)]


def test_an_emptied_table_fails_the_task_until_somebody_accepts_it(
    ready: Connection, payment_system: str, cluster: Cluster
) -> None:
    extract("2026-10-28")
    cluster.execute("truncate payments.merchants", payment_system)
    with pytest.raises(AirflowFailException, match=r"merchants is empty at the .*accept_deletions: \[merchants\]"):
        extract()
    assert extract(params={"accept_deletions": ["merchants"]})["rows"] == 1
    assert fetch(ready, "select kind from ops.load_notes order by note_id desc limit 1") == [("deletions_accepted",)]


def test_airflows_own_backfill_fills_the_days_that_are_missing(ready: Connection, payment_system: str) -> None:
    """A backfill's runs have the interval of their day, whenever they run; nobody gives them parameters."""
    extract("2026-10-27")
    extract("2026-10-29")

    def backfill(day: int) -> dict[str, Any]:
        moment = datetime(2026, 10, day + 1, 1, tzinfo=UTC)  # 02:00 in Amsterdam
        run = SimpleNamespace(run_after=AS_OF, run_type="backfill")
        return extract("", data_interval_start=moment, data_interval_end=moment, dag_run=run)

    fetch(ready, "delete from raw.payments_merchants returning 1")
    found = [backfill(day) for day in (27, 28, 29)]
    assert [run["business_date"] for run in found] == ["2026-10-27", "2026-10-28", "2026-10-29"]
    noted = fetch(ready, "select distinct interval_end, kind from ops.load_notes where batch_id is not null")
    assert noted == [(datetime(2026, 10, 28, 23, tzinfo=UTC), "backfilled")]


def test_a_day_before_the_last_close_is_loaded_and_told_to_nobody(
    ready: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money would not be lost, but the close of a closed day is refused: late rows enter the next one."""
    (tmp_path / "late.csv").write_text("no report of any kind")
    monkeypatch.setattr(close, "published_until", lambda *_: date(2026, 10, 30))
    asset = Asset(name="ingested", uri="tieout://raw/ingested")
    events = {asset: SimpleNamespace(extra={})}
    with pytest.raises(AirflowSkipException, match="1 files; 2026-10-29 is before the last close 2026-10-30"):
        load({"outlet_events": events}, landing=tmp_path.as_uri(), outlets=[asset])
    assert events[asset].extra == {}
    assert fetch(ready, "select status from ops.files") == [("quarantined",)]
    assert close.published_until(ready, "global") == date(2026, 10, 30)
    monkeypatch.undo()
    assert close.published_until(ready, "global") is None


def load(context: dict[str, Any], **more: Any) -> dict[str, int]:
    operator = LoadFilesOperator(task_id="t", business_date="2026-10-29", **more)
    return operator.execute({"dag_run": RUN, **context})  # type: ignore[typeddict-item]


def test_files_are_loaded_and_the_event_carries_the_date(
    ready: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.csv").write_text("no report of any kind")
    monkeypatch.setenv("TIEOUT_LANDING", tmp_path.as_uri())
    asset = Asset(name="ingested", uri="tieout://raw/ingested")
    events = {asset: SimpleNamespace(extra={})}
    assert load({"outlet_events": events}, outlets=[asset]) == {"quarantined": 1}
    assert events[asset].extra == {"book": "global", "business_date": "2026-10-29"}
    assert load({"outlet_events": events}, outlets=[asset]) == {"known": 1}


def test_a_landing_that_is_not_set_or_not_there_is_named(
    ready: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TIEOUT_LANDING", raising=False)
    with pytest.raises(AirflowFailException, match="set TIEOUT_LANDING"):
        load({})
    with pytest.raises(arrivals.LandingError, match="nowhere"):
        load({}, landing=(tmp_path / "nowhere").as_uri())


def test_a_file_that_breaks_our_reader_fails_the_task_and_no_event_is_told(
    ready: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = FileOutcome("odd.csv", "file:///odd.csv", "failed", "the reader broke (KeyError: 'x')")
    monkeypatch.setattr(landing, "load_landing", lambda *_: [broken])
    asset = Asset(name="ingested", uri="tieout://raw/ingested")
    events = {asset: SimpleNamespace(extra={})}
    with pytest.raises(AirflowException, match=r"odd\.csv"):
        load({"outlet_events": events}, landing=tmp_path.as_uri(), outlets=[asset])
    assert events[asset].extra == {}


# --- close


def event(day: str, book: str = "global") -> SimpleNamespace:
    return SimpleNamespace(extra={"book": book, "business_date": day})


def test_the_close_is_for_the_latest_date_announced_and_names_the_others(
    ready: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(
        ready,
        "insert into ops.batches (source, table_name, interval_start, interval_end, row_count, key_hash, as_of) "
        "values ('payments', 'captures', now() - interval '1 day', now(), 0, 0, now()) returning 1",
    )
    days = ("2026-10-27", "2026-10-26", "2026-10-28")
    events = {"ingested": [*map(event, days), event("2026-10-30", "another")]}
    warned: list[str] = []
    operator = OpenCloseOperator(task_id="t")
    monkeypatch.setattr(operator.log, "warning", lambda said, *values: warned.append(said % values))
    opened = operator.execute({"triggering_asset_events": events})  # type: ignore[typeddict-item]
    assert opened["business_date"] == "2026-10-28"
    (skipped,) = [said for said in warned if said.startswith("several ingests")]
    assert "close of 2026-10-28 takes all they loaded, there will be none of 2026-10-26, 2026-10-27" in skipped
    assert fetch(ready, "select close_id, fencing_token, business_date, as_of from ops.closes") == [
        (opened["close_id"], opened["fencing_token"], date(2026, 10, 28), AS_OF)
    ]


def test_a_close_without_a_date_or_without_anything_new_says_so(ready: Connection) -> None:
    with pytest.raises(AirflowFailException, match="parameter business_date"):
        OpenCloseOperator(task_id="t").execute({})
    with pytest.raises(AirflowFailException, match="nothing was loaded"):
        OpenCloseOperator(task_id="t", business_date="2026-10-28").execute({})


def test_a_step_is_built_as_the_builder(ready: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def build(*arguments: Any) -> StepResult:
        asked.extend(arguments)
        return StepResult("books", [NodeResult("model_a", "model", "success", 0.5, "INSERT 0 5")])

    monkeypatch.setattr(close, "build", build)
    monkeypatch.setenv("TIEOUT_STATE", str(tmp_path))
    BuildCloseOperator(task_id="t", step="books", close=CLOSE).execute({})
    server = asked[0]
    assert (server.host, server.port, server.user, server.password) == ("db.example", 5433, "builder", "s@cret")
    assert asked[1:] == [7, 3, "books", tmp_path]


def test_a_close_that_is_not_proven_is_not_retried(ready: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any) -> StepResult:
        raise CloseNotProven("captures.amount_minor EUR: expected 3, found 2")

    monkeypatch.setattr(close, "build", build)
    with pytest.raises(AirflowFailException, match=r"captures\.amount_minor EUR"):
        BuildCloseOperator(task_id="t", step="reconcile", close=CLOSE).execute({})


def test_a_published_close_is_neither_built_nor_published_again(
    ready: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []
    monkeypatch.setattr(close, "build", lambda *given: built.append(given[3]) or StepResult(given[3], []))
    for step in operators.STEPS:
        BuildCloseOperator(task_id=step, step=step, close={**CLOSE, "state": "published"}).execute({})
    monkeypatch.setattr(close, "publish", lambda *given: built.append("publish"))
    PublishCloseOperator(task_id="t", close={**CLOSE, "state": "published"}).execute({})
    assert built == []


def test_what_the_database_refuses_to_publish_is_not_retried(ready: Connection) -> None:
    opened = {"close_id": 999, "fencing_token": 1}
    with pytest.raises(AirflowFailException, match=r"refused to publish close 999.*there is no close 999"):
        PublishCloseOperator(task_id="t", close=opened).execute({})


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (psycopg2.errors.RaiseException, False),
        (psycopg2.errors.CheckViolation, False),
        (psycopg2.errors.InsufficientPrivilege, False),
        (psycopg2.OperationalError, True),
        (psycopg2.InterfaceError, True),
    ],
)
def test_a_lost_connection_is_retried_and_a_refusal_is_not(
    ready: Connection, monkeypatch: pytest.MonkeyPatch, error: type[psycopg2.Error], retried: bool
) -> None:
    def publish(*_: Any) -> int:
        raise error("said no")

    monkeypatch.setattr(close, "publish", publish)
    with pytest.raises(error if retried else AirflowFailException, match="said no"):
        PublishCloseOperator(task_id="t", close=CLOSE).execute({})


ASKED = {"business_date": "2026-10-28", "reason": "a report came late {{ 1/0 }}", "actor": "ann"}


def test_a_re_close_is_asked_for_by_date_reason_and_actor(
    ready: Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []

    def close_again(*given: Any, **named: Any) -> tuple[Reclosing, int]:
        asked.extend((given[0].info.user, given[1].info.user, *given[2:], named["reason"], named["actor"]))
        return Reclosing(1, "global", given[5], 1, ()), 12

    monkeypatch.setattr(reclose, "close_again", close_again)
    monkeypatch.setenv("TIEOUT_STATE", str(tmp_path))
    assert RecloseOperator(task_id="t").execute({"params": ASKED}) == 12
    assert (*asked[:2], asked[2].user, *asked[3:]) == (
        "loader", "publisher", "builder", tmp_path, "global", date(2026, 10, 28), "a report came late {{ 1/0 }}", "ann"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "2026-10-28 is not a published date of book global"),
        ({"business_date": None}, "trigger the run with the parameter business_date"),
        ({"business_date": HOSTILE[1]}, "must be a date such as"),
        ({"reason": " "}, "needs a reason"),
        ({"actor": ""}, "needs the name of who decides"),
    ],
)
def test_a_re_close_that_cannot_be_is_not_retried(ready: Connection, change: dict[str, Any], said: str) -> None:
    with pytest.raises(AirflowFailException, match=f"{said}.*\nNothing is published"):
        RecloseOperator(task_id="t").execute({"params": {**ASKED, **change}})
    assert fetch(ready, "select count(*) from ops.reclosings") == [(0,)]


def test_tasks_after_open_refuse_what_is_no_close(ready: Connection) -> None:
    for given in (None, {}, "{{ close }}", {"close_id": "x", "fencing_token": 1}):
        with pytest.raises(AirflowFailException, match="what OpenCloseOperator returned"):
            PublishCloseOperator(task_id="t", close=given).execute({})


def test_what_open_returns_is_what_the_next_tasks_need() -> None:
    assert {"close_id", "fencing_token", "state"} <= set(Close.__dataclass_fields__)


# --- watch


def test_checks_are_recorded_by_the_loader_and_kept_without_slack(ready: Connection) -> None:
    recorded = CheckOperator(task_id="check").execute({})
    assert recorded["opened"] > 0
    assert fetch(ready, "select count(*), min(opened_at) from ops.incidents") == [(recorded["opened"], AS_OF)]
    done = DeliverAlertsOperator(task_id="deliver").execute({})
    assert (done["sent"], done["waiting"]) == (0, recorded["opened"])
    assert CheckOperator(task_id="check").execute({})["opened"] == 0


def test_a_receiver_that_is_down_fails_the_task_and_keeps_the_messages(
    ready: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded = CheckOperator(task_id="check").execute({})
    slack = '{"conn_type": "slack", "password": "x", "extra": {"channel": "C1", "base_url": "http://127.0.0.1:1/"}}'
    monkeypatch.setenv("AIRFLOW_CONN_SLACK", slack)
    with pytest.raises(AirflowException, match="are kept"):
        DeliverAlertsOperator(task_id="deliver").execute({})
    assert fetch(ready, "select count(*) from ops.outbox where sent_at is null") == [(recorded["opened"],)]


def test_the_clock_is_the_databases_when_no_sandbox_sets_it(ready: Connection) -> None:
    fetch(ready, "delete from ops.clock returning 1")
    assert abs(operators.business_clock(ready) - datetime.now(UTC)) < timedelta(minutes=1)
