"""Extraction: what is in raw is what the source had, whatever happens on the way."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql

from tests.plugins.shop import AS_OF, DAY, SOURCE_TABLES, World, registry_of
from tieout.batches import TotalsMismatchError
from tieout.extraction import snapshot
from tieout.extraction.snapshot import take_snapshot
from tieout.extraction.source import SnapshotError, changed_since, within_reach
from tieout.postgres import Cluster, free_port
from tieout.sources import Registry, RegistryError


def test_a_first_batch_holds_every_row_and_its_totals(world: World) -> None:
    batches = world.run()
    orders = batches["orders"]
    assert (orders.outcome, orders.row_count, batches["lines"].row_count) == ("loaded", 300, 50)
    assert orders.content_until == datetime(2026, 10, 19, 12, tzinfo=UTC)
    with world.source.cursor() as cursor:
        cursor.execute("select order_id, amount_minor, currency, note, updated_at from shop.orders order by 1")
        expected = cursor.fetchall()
        cursor.execute(
            "select currency, count(*), sum(amount_minor) from shop.orders group by currency order by currency"
        )
        sums = cursor.fetchall()
        cursor.execute("select order_id, line_no, rate, details, updated_at from shop.lines order by 1, 2")
        lines = cursor.fetchall()
    assert (
        world.ask("select order_id, amount_minor, currency, note, updated_at from raw.shop_orders order by 1")
        == expected
    )
    assert world.ask("select order_id, line_no, rate, details, updated_at from raw.shop_lines order by 1, 2") == lines
    assert (
        world.ask(
            "select currency, row_count, sum_minor from ops.batch_totals where batch_id = %s and "
            "measure = 'amount_minor' order by currency",
            orders.batch_id,
        )
        == sums
    )
    assert world.ask("select source, table_name, row_count, as_of, horizon is not null from ops.batches") == [
        ("shop", "orders", 300, AS_OF, True),
        ("shop", "lines", 50, AS_OF, True),
    ]


def test_a_committed_interval_is_a_no_op(world: World) -> None:
    first = world.run()["orders"]
    world.sell("insert into shop.orders values ('late', 1, 'EUR', null, now())")
    before = world.loaded()
    again = world.run()["orders"]
    assert (again.outcome, again.batch_id, again.row_count) == ("committed", first.batch_id, 300)
    assert again.horizon == first.horizon
    assert world.loaded() == before


def test_the_next_interval_holds_what_changed_whatever_the_clock_says(world: World) -> None:
    world.run()
    world.sell("insert into shop.orders values ('new', 5, 'EUR', null, '1999-01-01 00:00+00')")
    world.sell("update shop.orders set amount_minor = 99 where order_id = 'o7'")
    batches = world.run(1)
    assert (batches["orders"].row_count, batches["lines"].row_count) == (2, 0)
    assert world.ask(
        "select order_id, amount_minor from raw.shop_orders where batch_id = %s order by 1", batches["orders"].batch_id
    ) == [("new", 5), ("o7", 99)]
    assert world.run(2)["orders"].row_count == 0


def test_a_transaction_that_commits_late_is_in_the_next_snapshot(world: World) -> None:
    with world.cluster.connect(world.dsn.rsplit("/", 1)[1]) as slow:
        slow.cursor().execute("insert into shop.orders values ('slow', 1, 'EUR', null, '2026-10-19 09:00+00')")
        slow.cursor().execute("savepoint s; insert into shop.lines values ('slow', 1, 1, '{}', null)")
        world.sell("insert into shop.orders values ('quick', 2, 'EUR', null, '2026-10-19 10:00+00')")
        first = world.run()
        assert first["orders"].row_count == 301
        world.sell("insert into shop.orders values ('later', 3, 'EUR', null, '2026-10-20 10:00+00')")
    second = world.run(1)
    assert {row[0] for row in world.ask("select order_id from raw.shop_orders")} >= {"slow", "quick", "later"}
    got = world.ask("select order_id from raw.shop_orders where batch_id = %s", second["orders"].batch_id)
    assert {"slow", "later"} <= {row[0] for row in got}
    assert world.ask("select count(*) from raw.shop_lines where order_id = 'slow'") == [(1,)]


@pytest.mark.parametrize(
    ("next_xid", "horizon"),
    [
        (1_000, 900),
        (2**32 + 10, 2**32 - 40),  # the 32-bit counter went round between the two snapshots
        (5 * 2**32 + 3, 5 * 2**32 - 2_000_000_000),
        (2**32 + 2**31 - 1, 2**32),  # as far back as 32 bits can tell
    ],
)
def test_no_transaction_since_the_horizon_is_missed_when_32_bits_go_round(
    world: World, next_xid: int, horizon: int
) -> None:
    writers = {horizon, horizon + 1, (horizon + next_xid) // 2, next_xid - 1}
    assert within_reach(next_xid, horizon)
    condition = changed_since(next_xid, horizon)
    with world.warehouse.cursor() as cursor:
        seen = (
            "select xid from (select x::text, (x %% 4294967296)::text::xid from unnest(%s::bigint[]) x) w (xid, xmin)"
        )
        cursor.execute(sql.SQL(seen) + sql.SQL(" where ") + condition, (sorted(writers),))
        assert {int(row[0]) for row in cursor.fetchall()} == writers
        cursor.execute(sql.SQL(seen) + sql.SQL(" where ") + condition, ([horizon - 1, horizon - 500],))
        assert cursor.fetchall() == []


def test_what_32_bits_cannot_tell_is_out_of_reach() -> None:
    assert not within_reach(2**32 + 2**31, 2**32)
    assert not within_reach(899, 900)


def test_a_source_whose_counter_went_back_is_read_whole(world: World) -> None:
    world.run()
    world.ask("update ops.batches set horizon = (horizon::text::bigint + 1000000000000)::text::xid8 returning 1")
    orders = world.run(1)["orders"]
    assert (orders.row_count, "out of reach of" in str(orders.taken_whole)) == (300, True)


def test_a_source_restored_behind_our_back_is_read_whole(world: World) -> None:
    """Its counter has passed the horizon, so only its identity tells that an old number may be a new row."""
    world.run()
    world.ask("update ops.batches set source_identity = replace(source_identity, 'system ', 'system 9') returning 1")
    world.ask("update ops.batches set horizon = (horizon::text::bigint + 1)::text::xid8 returning 1")
    orders = world.run(1)["orders"]
    assert orders.row_count == 300
    assert re.search(r"the source was system 9\d+ timeline 1 database \d+, and is system \d+", str(orders.taken_whole))
    after = world.run(2)["orders"]
    assert (after.row_count, after.taken_whole) == (0, None)


def test_a_copy_of_the_source_on_another_server_loses_no_row(world: World) -> None:
    """Dump and restore: the other server's transactions come before our horizon, and later pass it."""
    world.run()
    directory = Path(tempfile.mkdtemp(prefix="tieout-test-", dir="/tmp"))
    directory.chmod(0o755)
    other = Cluster(directory / "pg", free_port())
    try:
        other.start()
        other.execute("create database shop")
        with other.connect("shop") as connection, connection.cursor() as cursor:
            cursor.execute(SOURCE_TABLES % {"orders": 300})
            cursor.execute("insert into shop.orders values ('there', 5, 'EUR', null, now())")
        with other.connect("shop") as connection, connection.cursor() as cursor:
            cursor.execute("select pg_current_xact_id()::text::bigint")
            (passed, *_) = cursor.fetchone() or ()
        # The horizon lies between the restored rows and now: by the number alone, none of them is new.
        world.ask("update ops.batches set horizon = %s::text::xid8 returning 1", passed)
        world.dsn = other.dsn("shop")
        batches = world.run(1)
        assert (batches["orders"].row_count, batches["lines"].row_count) == (301, 50)
    finally:
        other.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


def test_a_horizon_of_before_identities_were_kept_is_not_trusted(world: World) -> None:
    world.run()
    world.ask("update ops.batches set source_identity = null returning 1")
    assert world.run(1)["orders"].row_count == 300


def test_a_server_that_keeps_its_identity_to_itself_is_known_by_its_start(world: World) -> None:
    world.run()
    world.sell("revoke execute on function pg_control_system() from public; create role shy login")
    world.sell("grant usage on schema shop to shy; grant select on all tables in schema shop to shy")
    trusted, world.dsn = world.dsn, world.dsn.replace("postgres@", "shy@")
    try:
        assert world.run(1)["orders"].row_count == 300
        assert world.run(2)["orders"].row_count == 0
    finally:
        world.dsn = trusted
        world.sell("grant execute on function pg_control_system() to public; drop owned by shy; drop role shy")
    identities = world.ask("select distinct split_part(source_identity, ' ', 1) from ops.batches order by 1")
    assert identities == [("started",), ("system",)]


def test_a_full_table_comes_whole_each_time(world: World, tmp_path: Path) -> None:
    world.registry = registry_of(tmp_path, mode="full")
    world.run()
    batches = world.run(1)
    assert (batches["orders"].row_count, batches["lines"].row_count) == (0, 50)


def test_a_choice_of_tables_is_of_every_sources(world: World) -> None:
    """What another source is asked for is left to it: a run with a choice has a task for each source."""
    (shop,) = world.registry.sources
    stall = replace(shop, name="stall", tables=tuple(replace(table, source="stall") for table in shop.tables[1:]))
    world.registry = Registry((shop, stall))
    assert world.run(tables=["stall.lines"]) == {}
    assert world.run(tables=["shop.lines"]).keys() == {"lines"}
    assert world.run(tables=["orders", "lines"]).keys() == {"orders", "lines"}


def test_a_manifest_that_refuses_the_batch_is_no_fault_of_a_row(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the lock, a twin's batch is in the way when this run opens its own."""
    world.run()
    before = world.loaded()
    monkeypatch.setattr(snapshot, "_lock_and_list", lambda *_: {})
    monkeypatch.setattr(snapshot, "_overtaken", lambda *_: set())
    with pytest.raises(SnapshotError, match=r"batch of shop\.orders could not be entered .duplicate key.*another run"):
        world.run()
    assert (world.loaded(), world.notes()) == (before, [])


def test_nonsense_is_refused_before_anything_happens(world: World) -> None:
    with pytest.raises(SnapshotError, match="is no interval"):
        take_snapshot(world.dsn, world.warehouse, world.registry, "shop", DAY, DAY, AS_OF)
    naive = datetime(2026, 10, 19)
    with pytest.raises(SnapshotError, match="both with a time zone"):
        take_snapshot(world.dsn, world.warehouse, world.registry, "shop", naive, DAY, AS_OF)
    with pytest.raises(RegistryError, match="'nowhere' is not declared"):
        take_snapshot(world.dsn, world.warehouse, world.registry, "nowhere", DAY, DAY + timedelta(1), AS_OF)
    world.warehouse.cursor().execute("select 1")
    with pytest.raises(ValueError, match="inside a transaction"):
        world.run()


def test_an_autocommitting_connection_still_loads_all_or_nothing(world: World) -> None:
    world.warehouse.autocommit = True
    world.sell("insert into shop.lines values ('x', 2, 1, '{}', null)")
    world.ask("alter table raw.shop_lines rename to elsewhere; select 1")
    with pytest.raises(SnapshotError, match=r"raw\.shop_lines is not as declared.*ensure_raw_tables"):
        world.run()
    assert world.loaded() == (0, 0, 0)
    assert world.warehouse.autocommit


def test_the_loaders_rights_are_enough(world: World, cluster: Cluster) -> None:
    with cluster.connect(world.warehouse.info.dbname, "loader") as loader:
        assert world.run(warehouse=loader)["orders"].outcome == "loaded"
        assert world.run(1, warehouse=loader)["orders"].row_count == 0


def test_a_function_may_open_the_source(world: World) -> None:
    dsn = world.dsn
    batches = take_snapshot(
        lambda: psycopg2.connect(dsn), world.warehouse, world.registry, "shop", DAY, DAY + timedelta(1), AS_OF
    )
    assert [batch.row_count for batch in batches] == [300, 50]


def test_two_runs_of_one_interval_load_once(world: World) -> None:
    dsn = world.warehouse.dsn
    gate = threading.Barrier(2)

    def go() -> str:
        connection = psycopg2.connect(dsn)
        try:
            gate.wait()
            return world.run(warehouse=connection)["orders"].outcome
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        outcomes = [run.result() for run in [threads.submit(go), threads.submit(go)]]
    assert sorted(outcomes) == ["committed", "loaded"]
    assert world.loaded()[:2] == (300, 2)


CHILD = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
import psycopg2
from tieout.extraction.snapshot import take_snapshot
from tieout.sources import load_registry
source, warehouse, project = sys.argv[1:]
day = datetime.fromisoformat("2026-10-19T00:00:00+00:00")
take_snapshot(source, psycopg2.connect(warehouse), load_registry(Path(project)), "shop", day, day + timedelta(1), day)
"""


def test_a_killed_load_leaves_nothing_and_one_rerun_loads_once(world: World, tmp_path: Path) -> None:
    # Raw takes a hundredth of a second a row, so the kill falls into the COPY.
    world.ask(
        "create function raw.dawdle() returns trigger language plpgsql as "
        "$$ begin perform pg_sleep(0.01); return new; end $$; "
        "create trigger dawdle before insert on raw.shop_orders for each row execute function raw.dawdle(); select 1"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, world.dsn, world.warehouse.dsn, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "plugins")},
    )
    deadline = time.monotonic() + 30
    while not world.ask("select 1 from pg_stat_progress_copy where command = 'COPY FROM' and tuples_processed > 5"):
        assert child.poll() is None, "the load ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert world.loaded() == (0, 0, 0)
    world.ask("drop trigger dawdle on raw.shop_orders; select 1")
    assert world.run()["orders"].outcome == "loaded"
    assert world.loaded() == (300, 2, 3)


def test_no_snapshot_is_torn_across_tables(world: World) -> None:
    """A writer adds an order and its line in one transaction: no snapshot sees one without the other."""
    stop = threading.Event()

    def write() -> int:
        connection, written = psycopg2.connect(world.dsn), 0
        try:
            while not stop.is_set():
                written += 1
                with connection, connection.cursor() as cursor:
                    cursor.execute("insert into shop.orders values (%s, 1, 'EUR', null, now())", (f"p{written}",))
                    cursor.execute("insert into shop.lines values (%s, 1, 1, '{}', null)", (f"p{written}",))
        finally:
            connection.close()
        return written

    def pairs() -> tuple[int, int, int]:
        (row,) = world.ask(
            "select count(o.order_id), count(l.order_id), count(*) from "
            "(select distinct order_id from raw.shop_orders where order_id like 'p%') o full join "
            "(select distinct order_id from raw.shop_lines where order_id like 'p%') l using (order_id)"
        )
        return row[0], row[1], row[2]

    with ThreadPoolExecutor(1) as threads:
        written = threads.submit(write)
        try:
            for day in range(12):
                world.run(day)
                orders, lines, both = pairs()
                assert orders == lines == both
        finally:
            stop.set()
    world.run(12)
    assert pairs() == (written.result(),) * 3
    assert written.result() > 12


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            "new.amount_minor := new.amount_minor + (new.order_id = 'o5')::int",
            r"amount_minor in KWD: .* sum \d+; in raw",
        ),
        ("if new.order_id = 'o5' then return null; end if", "row count: at the source 300, in raw.shop_orders 299"),
        ("if new.order_id = 'o5' then new.order_id := 'x5'; end if", "key hash: at the source"),
    ],
)
def test_raw_that_differs_from_the_source_rolls_everything_back(world: World, damage: str, said: str) -> None:
    world.ask(
        "create function raw.damage() returns trigger language plpgsql as "
        f"$$ begin {damage}; return new; end $$; "
        "create trigger damage before insert on raw.shop_orders for each row execute function raw.damage(); select 1"
    )
    with pytest.raises(TotalsMismatchError, match=said) as raised:
        world.run()
    assert "shop.orders" in str(raised.value)
    assert world.loaded() == (0, 0, 0)
    world.ask("drop trigger damage on raw.shop_orders; select 1")
    assert world.run()["orders"].row_count == 300


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("alter table shop.orders drop column note", "column note is missing"),
        ("alter table shop.orders rename column note to remark", r"column note is missing \(new there: remark\)"),
        ("alter table shop.orders alter amount_minor type integer", "amount_minor is integer, declared bigint"),
        ("alter table shop.orders alter note type varchar(9)", r"note is character varying\(9\), declared text"),
        ("create type shop.c as enum (''); alter table shop.orders alter amount_minor type shop.c using ''", "shop.c"),
        ("drop table shop.orders", "shop.orders does not exist at the source"),
        ("alter table shop.orders rename to sales; create view shop.orders as select * from shop.sales", "mode: full"),
        (
            "alter table shop.orders alter updated_at drop not null; "
            "insert into shop.orders values ('n', 1, 'EUR', null, null)",
            "rows that break its declaration: null value in column .updated_at",
        ),
    ],
)
def test_a_table_that_drifted_is_refused_and_the_others_go_on(world: World, change: str, said: str) -> None:
    world.sell(change)
    batches = world.run()
    refused = batches["orders"]
    assert (refused.outcome, refused.batch_id) == ("refused", None)
    assert refused.problem is not None
    assert re.search(said, refused.problem), refused.problem
    assert (batches["lines"].outcome, batches["lines"].row_count) == ("loaded", 50)
    assert world.ask("select table_name from ops.batches") == [("lines",)]
    assert world.ask("select count(*) from raw.shop_orders") == [(0,)]
    assert world.notes()[-1] == ("orders", "table_refused", "fail")
    assert world.said("table_refused") == refused.problem


def test_a_repaired_table_catches_up_in_the_same_interval(world: World) -> None:
    world.sell("alter table shop.orders rename column note to remark")
    world.run()
    world.sell("alter table shop.orders rename column remark to note")
    batches = world.run()
    assert (batches["orders"].outcome, batches["lines"].outcome) == ("loaded", "committed")
    assert world.notes()[-1] == ("orders", "other_snapshot", "warn")
    assert len(world.ask("select distinct snapshot from ops.batches")) == 2


def test_a_run_that_refuses_every_table_still_says_so(world: World) -> None:
    world.sell("alter table shop.orders drop column note; alter table shop.lines drop column rate")
    assert {batch.outcome for batch in world.run().values()} == {"refused"}
    assert world.loaded() == (0, 0, 0)
    assert world.notes() == [("orders", "table_refused", "fail"), ("lines", "table_refused", "fail")]


@pytest.mark.parametrize(
    ("before", "after", "outcome", "kind"),
    [
        ("numeric", "numeric(8,2)", "refused", "table_refused"),
        ("numeric(12,4)", "numeric(12,2)", "refused", "table_refused"),
        ("numeric(12,2)", "numeric(12,4)", "refused", "table_refused"),  # fewer digits before the point
        ("numeric(8,2)", "numeric(12,4)", "loaded", "column_changed"),
        ("numeric(8,2)", "numeric", "loaded", "column_changed"),
    ],
)
def test_a_type_that_gets_narrower_freezes_its_table(
    world: World, before: str, after: str, outcome: str, kind: str
) -> None:
    """The declaration says numeric, which both are: what was cut off at the source would stay unnoticed."""
    world.sell(f"alter table shop.lines alter rate type {before}")
    assert world.run()["lines"].outcome == "loaded"
    world.sell(f"alter table shop.lines alter rate type {after}")
    assert world.run(1)["lines"].outcome == outcome
    assert world.notes()[-1][:2] == ("lines", kind)
    assert f"rate was {before} and is" in world.said(kind)
    again = world.run(2)["lines"]
    assert (again.outcome, again.row_count) == (outcome, 0)


def test_a_constraint_that_was_dropped_is_only_noted(world: World) -> None:
    world.run()
    world.sell("alter table shop.orders alter updated_at drop not null")
    assert world.run(1)["orders"].outcome == "loaded"
    assert world.notes() == [("orders", "column_changed", "warn")]


def test_an_added_column_is_reported_and_left_out(world: World) -> None:
    world.sell("alter table shop.orders add column channel text default 'web'")
    orders = world.run()["orders"]
    assert (orders.outcome, orders.row_count, orders.added_columns) == ("loaded", 300, ("channel",))


def test_enums_and_domains_are_read_as_declared(world: World) -> None:
    world.sell(
        "create type shop.money as enum ('EUR', 'JPY', 'KWD'); create domain shop.minor as bigint; "
        "alter table shop.orders alter currency type shop.money using currency::shop.money, "
        "alter amount_minor type shop.minor"
    )
    assert world.run()["orders"].row_count == 300
    assert world.ask("select count(*) from raw.shop_orders where currency = 'EUR'") == [(100,)]


def test_a_table_that_may_not_be_read_is_refused(world: World, cluster: Cluster) -> None:
    world.sell("grant usage on schema shop to reader; grant select on shop.lines to reader")
    world.dsn = cluster.dsn(world.dsn.rsplit("/", 1)[1], "reader")
    try:
        batches = world.run()
    finally:
        world.sell("drop owned by reader")
    assert batches["orders"].outcome == "refused"
    assert "grant it SELECT" in str(batches["orders"].problem)
    assert batches["lines"].outcome == "loaded"


def test_a_source_that_is_down_is_named_with_the_remedy(world: World) -> None:
    world.dsn = f"postgresql://postgres:hunter2@127.0.0.1:{free_port()}/shop"
    with pytest.raises(
        SnapshotError, match=r"source shop \(connection shop\): connecting failed.*Check that"
    ) as raised:
        world.run()
    assert "hunter2" not in str(raised.value)
    assert world.loaded() == (0, 0, 0)


def test_a_locked_source_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "tieout.extraction.source.BEGIN_READING",
        "begin isolation level repeatable read; set local lock_timeout = '50ms'",
    )
    with world.cluster.connect(world.dsn.rsplit("/", 1)[1]) as altering:
        altering.cursor().execute("alter table shop.orders add column x int")
        with pytest.raises(SnapshotError, match=r"taking a snapshot failed.*schema change or a long lock"):
            world.run()
        altering.rollback()
    assert world.run()["orders"].row_count == 300


def test_a_source_that_goes_away_mid_copy_leaves_nothing(world: World) -> None:
    world.ask(
        "create function raw.cut() returns trigger language plpgsql as $$ begin "
        "perform pg_terminate_backend(pid) from pg_stat_activity "
        "where datname like 'shop%' and query like 'copy (select%'; "
        "perform pg_sleep(0.05); return new; end $$; "
        "create trigger cut before insert on raw.shop_orders for each row when (new.order_id = 'o1') "
        "execute function raw.cut(); select 1"
    )
    world.sell(
        "insert into shop.orders select 'big' || i, 1, 'EUR', repeat('x', 2000), now() from generate_series(1, 20000) i"
    )
    with pytest.raises(SnapshotError, match=r"source shop \(connection shop\): reading orders failed"):
        world.run()
    assert world.loaded() == (0, 0, 0)
    world.ask("drop trigger cut on raw.shop_orders; select 1")
    assert world.run()["orders"].row_count == 20300


def test_a_table_with_broken_rows_does_not_stop_the_copy_of_the_next(world: World) -> None:
    """The refused table is larger than the pipe: its rest is read off, so that the connection serves the next table."""
    world.sell("alter table shop.orders alter updated_at drop not null")
    world.sell("update shop.orders set updated_at = null where order_id = 'o1'")
    world.sell(
        "insert into shop.orders select 'big' || i, 1, 'EUR', repeat('x', 2000), now() from generate_series(1, 5000) i"
    )
    batches = world.run()
    assert (batches["orders"].outcome, batches["lines"].outcome) == ("refused", "loaded")
