"""Sweeps: what is gone, or came in a way no transaction shows, is found, said and booked as gone; never silently."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest

from tests.plugins.shop import World
from tieout.extraction import source as source_reading
from tieout.extraction import sweep
from tieout.extraction.state import Counted
from tieout.extraction.verify import verify_batches
from tieout.failpoints import Failpoint
from tieout.sources import Column, ensure_raw_tables

GONE = "select order_id, amount_minor, currency, note from raw.shop_orders where is_deleted order by batch_id, 1"
# What staging does: the latest version of each key, unless it says that the key is gone.
ALIVE = (
    "select order_id, amount_minor, currency, note, updated_at from "
    "(select distinct on (order_id) * from raw.shop_orders order by order_id, batch_id desc) v where not is_deleted "
    "order by 1"
)


def swept(world: World) -> list[tuple[Any, ...]]:
    """(table, missed, deleted) of every sweep."""
    return world.ask(
        "select table_name, rows_missed, rows_deleted from ops.sweeps join ops.batches using (batch_id) order by 1, 2"
    )


def is_the_source(world: World) -> bool:
    """Whether raw's latest versions are the source's rows, and every batch holds what its manifest says."""
    with world.source.cursor() as cursor:
        cursor.execute("select order_id, amount_minor, currency, note, updated_at from shop.orders order by 1")
        expected = cursor.fetchall()
    return world.ask(ALIVE) == expected and all(
        verdict.holds for verdict in verify_batches(world.warehouse, world.registry)
    )


@pytest.mark.parametrize("keys", [["o7"], ["o1", "o150", "o300"]])
def test_what_was_deleted_is_a_tombstone_in_the_very_next_batch(world: World, keys: list[str]) -> None:
    world.run()
    world.delete(f"order_id in ({', '.join(map(repr, keys))})")
    world.sell("insert into shop.orders values ('new', 5, 'EUR', null, now())")
    orders = world.run(1)["orders"]
    assert [row[:2] for row in world.ask(GONE)] == [(key, 0) for key in sorted(keys)]
    assert orders.swept is not None
    assert (orders.swept.rows_deleted, orders.swept.rows_missed) == (len(keys), 0)
    assert world.ask("select row_count, horizon is not null from ops.batches where batch_id = %s", orders.batch_id) == [
        (orders.row_count, True)
    ]
    assert world.notes() == [("orders", "rows_deleted", "fail")]
    assert keys[0] in world.said("rows_deleted")
    assert swept(world) == [("orders", 0, len(keys))]
    assert is_the_source(world)
    assert (world.run(2)["orders"].row_count, world.run(2)["orders"].outcome) == (0, "committed")
    assert swept(world) == [("orders", 0, len(keys))]


def test_a_tombstone_keeps_all_but_the_money(world: World) -> None:
    world.run()
    world.delete("order_id = 'o2'")
    world.run(1)
    assert world.ask(GONE) == [("o2", 0, "KWD", "tab\there")]
    assert world.ask(
        "select measure, currency, row_count, sum_minor from ops.batch_totals where batch_id = "
        "(select max(batch_id) from raw.shop_orders where is_deleted)"
    ) == [("amount_minor", "KWD", 1, 0)]


def test_a_table_without_money_only_warns(world: World) -> None:
    world.run()
    world.delete("order_id = 'o3'", "lines")
    assert world.run(1)["lines"].row_count == 1
    assert world.notes() == [("lines", "rows_deleted", "warn")]


def test_a_row_that_came_and_went_between_two_runs_leaves_nothing(world: World) -> None:
    world.run()
    world.sell("insert into shop.orders values ('brief', 1, 'EUR', null, now())")
    world.delete("order_id = 'brief'")
    orders = world.run(1)["orders"]
    assert (orders.row_count, swept(world), world.notes()) == (0, [("orders", 0, 0)], [])


def test_a_deletion_during_the_run_belongs_to_the_next_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows and sweep are one snapshot: what is deleted after it was taken is neither half seen nor forgotten."""
    world.run()
    world.delete("order_id = 'o1'")
    reach = sweep.reach

    def delete_then_reach(point: Failpoint) -> None:
        if point is Failpoint.BEFORE_SWEEP:
            world.delete("order_id = 'o2'")
        reach(point)

    monkeypatch.setattr(sweep, "reach", delete_then_reach)
    world.run(1)
    assert [row[0] for row in world.ask(GONE)] == ["o1"]
    monkeypatch.undo()
    world.run(2)
    assert [row[0] for row in world.ask(GONE)] == ["o1", "o2"]
    assert is_the_source(world)


def test_no_deletion_is_counted_that_the_snapshot_does_not_show(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted first and seen later, it would be taken for known by the next run."""
    world.run()
    count_changes = source_reading.count_changes

    def delete_then_count(*arguments: Any) -> Counted:
        world.delete("order_id = 'o2'")
        return count_changes(*arguments)

    monkeypatch.setattr(source_reading, "count_changes", delete_then_count)
    world.run(1)
    monkeypatch.undo()
    world.run(2)
    assert [row[0] for row in world.ask(GONE)] == ["o2"]


def test_a_deletion_that_left_no_sign_is_found_within_a_week(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run()
    monkeypatch.setattr(source_reading, "count_changes", lambda *_: Counted({}, "never"))
    world.run(1)
    world.delete("order_id = 'o1'")
    for day in range(2, 8):
        assert world.run(day)["orders"].swept is None
    assert world.ask(GONE) == []
    assert world.run(8)["orders"].swept is not None
    assert [row[0] for row in world.ask(GONE)] == ["o1"]
    assert world.run(9)["orders"].swept is None


def test_how_often_is_the_declarations_to_say(world: World) -> None:
    world.declare("orders", sweep_every_days=0)
    world.run()
    batches = world.run(1)
    assert (batches["orders"].swept is not None, batches["lines"].swept) == (True, None)
    assert world.run(2, accept_deletions=["lines"])["lines"].swept is not None


# --- what somebody lost on our side, or at the source


def test_a_row_that_was_lost_is_found_and_loaded(world: World) -> None:
    """Money lost: raw had the row and has it no more, and nobody writes it at the source again."""
    world.run()
    world.ask("delete from raw.shop_orders where order_id in ('o10', 'o20') returning 1")
    world.ask("update raw.shop_orders set amount_minor = 1 where order_id = 'o30' returning 1")
    assert world.run(1)["orders"].row_count == 0
    orders = world.run(8)["orders"]
    assert orders.swept is not None
    assert (orders.swept.rows_missed, orders.swept.rows_deleted) == (3, 0)
    assert world.notes() == [("orders", "rows_missed", "fail")]
    assert [row[1] for row in world.ask(ALIVE) if row[0] in ("o10", "o20", "o30")] == [70, 140, 210]


def test_an_update_that_no_clock_shows_needs_no_sweep(world: World) -> None:
    world.run()
    world.sell("update shop.orders set amount_minor = 5 where order_id = 'o9'")
    orders = world.run(1)["orders"]
    assert (orders.row_count, orders.swept, is_the_source(world)) == (1, None, True)


def test_a_source_restored_to_an_earlier_time_takes_rows_back(world: World) -> None:
    world.sell("insert into shop.orders values ('lost', 5, 'EUR', null, now())")
    world.run()
    world.ask("update ops.batches set source_identity = 'system 9 timeline 1 database 1' returning 1")
    world.sell("delete from shop.orders where order_id = 'lost'")
    orders = world.run(1)["orders"]
    assert (orders.row_count, [row[0] for row in world.ask(GONE)]) == (301, ["lost"])
    assert ("orders", "taken_whole", "warn") in world.notes()
    assert ("orders", "rows_deleted", "fail") in world.notes()


def test_a_column_declared_later_is_filled_in_old_rows(world: World) -> None:
    world.sell("alter table shop.orders add column channel text default 'web'")
    world.run()
    assert world.notes() == [("orders", "added_column", "warn")]
    assert "`- {name: channel, data_type: text}`" in world.said("added_column")
    columns = world.registry.table("shop_orders").columns
    world.declare("orders", columns=(*columns, Column("channel", "text", not_null=False)))
    ensure_raw_tables(world.warehouse, world.registry)
    world.run(1)
    assert world.notes()[1:] == [("orders", "columns_filled", "warn")]
    found = world.ask("select channel, count(*) from raw.shop_orders group by 1 order by 1")
    assert found == [("web", 300), (None, 300)]


def test_both_sides_spell_every_type_alike(world: World) -> None:
    """Whatever the servers' own settings are: a difference that is none would bring every row again each week."""
    world.sell(
        "create type shop.size as enum ('s', 'm'); create domain shop.minor as bigint; "
        "alter table shop.lines add d double precision default 0.1::float8 * 3, add b bytea default '\\x00ff5c', "
        "add a text[] default '{\"a, b\",null}', add t timestamp(3) default '2026-03-29 02:30:00.125', "
        "add i interval default '1 mon 2 days 03:00', add e shop.size default 'm', add m shop.minor default 7, "
        "add j json default '{\"a\" :1}', add c char(4) default 'x', add n numeric(12,4) default 1.5, "
        "add z date default 'infinity'"
    )
    name = world.dsn.rsplit("/", 1)[1]
    for setting in ("timezone = 'Asia/Kolkata'", "bytea_output = 'escape'", "extra_float_digits = 0",
                    "datestyle = 'German'", "intervalstyle = 'iso_8601'"):  # fmt: skip
        world.sell(f'alter database "{name}" set {setting}')
    more = {
        "d": "double precision", "b": "bytea", "a": "text[]", "t": "timestamp(3)", "i": "interval", "e": "text",
        "m": "bigint", "j": "json", "c": "character(4)", "n": "numeric", "z": "date",
    }  # fmt: skip
    columns = world.registry.table("shop_lines").columns
    columns += tuple(Column(name, data_type, not_null=False) for name, data_type in more.items())
    world.declare("lines", columns=columns, sweep_every_days=0)
    ensure_raw_tables(world.warehouse, world.registry)
    assert world.run()["lines"].outcome == "loaded", world.notes()
    lines = world.run(1)["lines"]
    assert lines.swept is not None
    assert (lines.swept.rows_compared, lines.swept.buckets_differing, lines.row_count) == (50, 0, 0)


# --- TRUNCATE, and more deletions than anybody meant


def test_an_emptied_table_is_refused_until_somebody_confirms(world: World) -> None:
    world.run()
    world.sell("truncate shop.orders; insert into shop.lines values ('x', 9, 1, '{}', null)")
    for _ in range(2):
        batches = world.run(1)
        assert (batches["orders"].outcome, batches["orders"].batch_id) == ("refused", None)
    assert "accept_deletions: [orders]" in str(batches["orders"].problem)
    assert world.ask("select count(*), count(*) filter (where is_deleted) from raw.shop_orders") == [(300, 0)]
    assert (batches["lines"].outcome, batches["lines"].row_count) == ("committed", 1)
    assert set(world.notes()) == {("orders", "truncated", "fail")}
    orders = world.run(1, accept_deletions=["orders"])["orders"]
    assert (orders.outcome, orders.row_count) == ("loaded", 300)
    assert ("orders", "deletions_accepted", "warn") in world.notes()
    assert is_the_source(world)
    # Nothing is alive there any more: it may stay empty.
    assert world.run(2)["orders"].outcome == "loaded"


@pytest.mark.parametrize(("kept", "gone"), [("true", 0), ("order_id <> 'o5'", 1)])
def test_a_table_truncated_and_filled_again_is_what_it_is_now(world: World, kept: str, gone: int) -> None:
    world.run()
    world.sell(
        "create table shop.copy as table shop.orders; truncate shop.orders; "
        f"insert into shop.orders select * from shop.copy where {kept}"
    )
    orders = world.run(1)["orders"]
    assert (orders.outcome, orders.row_count, len(world.ask(GONE))) == ("loaded", 300, gone)
    assert is_the_source(world)


def test_a_table_that_loses_too_much_at_once_is_refused(world: World) -> None:
    world.sell("insert into shop.orders select 'n' || i, 1, 'EUR', null, now() from generate_series(1, 1700) i")
    world.run()
    world.delete("order_id like 'n%' and substr(order_id, 2)::int <= 201")
    refused = world.run(1)["orders"]
    assert refused.outcome == "refused"
    assert "201 of 2000 rows of shop.orders are gone" in str(refused.problem)
    assert world.notes() == [("orders", "mass_deletion", "fail")]
    assert world.ask(GONE) == []
    world.sell("insert into shop.orders values ('n1', 1, 'EUR', null, now())")
    assert world.run(1)["orders"].outcome == "loaded"
    assert len(world.ask(GONE)) == 200
    assert is_the_source(world)


@pytest.mark.parametrize(("allowed", "outcome"), [(None, "loaded"), (2, "loaded"), (1, "refused"), (0, "refused")])
def test_how_much_may_go_is_the_declarations_to_say(world: World, allowed: int | None, outcome: str) -> None:
    world.declare("orders", deletions_max=allowed)
    world.run()
    world.delete("order_id in ('o1', 'o2')")
    assert world.run(1)["orders"].outcome == outcome


# --- other signs


@pytest.mark.parametrize(
    ("sign", "said"),
    [
        ("vacuum full shop.orders", "its files are others"),
        ("select pg_stat_reset_shared('bgwriter')", "its counters began anew"),
        ("select pg_stat_reset()", "its counters began anew"),
    ],
)
def test_a_sign_that_means_nothing_costs_a_look(world: World, sign: str, said: str) -> None:
    world.run()
    world.sell(sign)
    orders = world.run(1)["orders"]
    assert (orders.row_count, swept(world)[-1]) == (0, ("orders", 0, 0))
    assert said in str(world.ask("select reason from ops.sweeps order by batch_id limit 1"))
    assert world.run(2)["orders"].swept is None


def test_a_partition_that_is_dropped_takes_its_rows_along(world: World) -> None:
    world.sell(
        "drop table shop.orders; create table shop.orders (order_id text, amount_minor bigint, currency text, "
        "note text, updated_at timestamptz not null) partition by list (currency); "
        "create table shop.orders_eur partition of shop.orders for values in ('EUR'); "
        "create table shop.orders_jpy partition of shop.orders for values in ('JPY'); "
        "insert into shop.orders values ('a', 1, 'EUR', null, now()), ('b', 2, 'JPY', null, now())"
    )
    world.run()
    world.sell("drop table shop.orders_jpy")
    world.run(1)
    assert world.ask(GONE) == [("b", 0, "JPY", None)]


def test_a_full_table_shows_what_is_gone_every_day(world: World) -> None:
    """A view has no transactions and no counters; it comes whole, and what does not come is gone."""
    world.sell("alter table shop.orders rename to sales; create view shop.orders as select * from shop.sales")
    world.declare("orders", mode="full")
    assert world.run()["orders"].row_count == 300
    world.sell("delete from shop.sales where order_id = 'o4'; update shop.sales set note = 'x' where order_id = 'o5'")
    orders = world.run(1)["orders"]
    assert (orders.row_count, swept(world)) == (300, [("orders", 0, 1)])
    assert is_the_source(world)
    world.sell("create or replace view shop.orders as select * from shop.sales where false")
    assert world.run(2)["orders"].outcome == "refused"
    assert world.notes()[-1] == ("orders", "truncated", "fail")


# --- keys that are used again


def test_a_key_that_comes_back_is_said_even_where_nothing_is_immutable(world: World) -> None:
    world.run()
    world.delete("order_id = 'o1'")
    world.run(1)
    world.sell("insert into shop.orders values ('o1', 7, 'JPY', null, now())")
    world.run(2)
    assert world.notes()[-1] == ("orders", "key_reused", "warn")
    assert is_the_source(world)


def test_a_key_that_comes_back_as_another_thing_fails(world: World) -> None:
    world.declare("orders", immutable=("currency",))
    world.run()
    world.delete("order_id in ('o1', 'o2')")
    world.run(1)
    world.sell("insert into shop.orders values ('o1', 7, 'JPY', null, now())")
    world.run(2)
    assert world.notes()[-1] == ("orders", "key_reused", "warn")
    world.sell("insert into shop.orders values ('o2', 14, 'USD', null, now())")
    world.run(3)
    assert world.notes()[-1] == ("orders", "key_reused", "fail")
    assert "o2" in world.said("key_reused")
    assert is_the_source(world)


def test_a_value_that_never_changes_and_does_is_said(world: World) -> None:
    world.declare("orders", immutable=("currency", "note"))
    world.run()
    world.sell("update shop.orders set amount_minor = 3 where order_id = 'o1'")
    world.run(1)
    assert world.notes() == []
    world.sell("update shop.orders set note = null where order_id in ('o1', 'o2')")
    orders = world.run(2)["orders"]
    assert (orders.outcome, orders.row_count, world.notes()) == ("loaded", 2, [("orders", "key_reused", "fail")])
    assert "2 keys of shop.orders" in world.said("key_reused")


def test_an_event_that_is_given_another_key_is_found(world: World) -> None:
    """In an append table an update counts as a sign: the old key is gone, though nothing was deleted."""
    world.declare("lines", mode="append", immutable=("order_id", "line_no", "rate", "details", "updated_at"))
    world.run()
    with psycopg2.connect(world.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("update shop.lines set line_no = 2 where order_id = 'o8'")
    connection.close()
    for day in range(1, 60):
        if world.run(day)["lines"].swept is not None:
            break
    assert world.ask("select line_no, is_deleted from raw.shop_lines where order_id = 'o8' order by 1, 2") == [
        (1, False), (1, True), (2, False),
    ]  # fmt: skip
