"""Backfills, and runs that load some of the tables: what they hold, and what they say about it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.plugins.shop import AS_OF, DAY, World
from tieout.extraction.snapshot import take_snapshot
from tieout.sources import RegistryError


def sell_on(world: World, day: int, key: str, amount_minor: int = 1) -> None:
    moment = DAY + timedelta(days=day, hours=12)
    world.sell("insert into shop.orders values (%s, %s, 'EUR', null, %s)", key, amount_minor, moment)


def keys(world: World, batch_id: int | None) -> list[str]:
    found = world.ask("select order_id from raw.shop_orders where batch_id = %s order by 1", batch_id)
    return [key for (key,) in found]


def test_a_missed_day_holds_its_rows_as_they_are_now(world: World) -> None:
    world.run(0)
    sell_on(world, 1, "monday")
    sell_on(world, 2, "tuesday")
    sell_on(world, 2, "changed")
    world.run(3)
    world.sell("update shop.orders set amount_minor = 9 where order_id = 'changed'")
    batch = world.run(2)["orders"]
    assert (batch.outcome, batch.horizon, keys(world, batch.batch_id)) == ("loaded", None, ["changed", "tuesday"])
    assert world.ask("select amount_minor from raw.shop_orders where order_id = 'changed' order by batch_id") == [
        (1,), (9,),
    ]  # fmt: skip
    assert world.notes() == [("orders", "backfilled", "warn"), ("lines", "backfilled", "warn")]
    assert "what they were before is gone" in world.said("backfilled")
    assert world.run(2)["orders"].outcome == "committed"


def test_the_edges_of_a_day_belong_to_one_day_each(world: World) -> None:
    world.sell("delete from shop.orders")
    for key, moment in (("first", DAY + timedelta(1)), ("last", DAY + timedelta(2) - timedelta(microseconds=1))):
        world.sell("insert into shop.orders values (%s, 1, 'EUR', null, %s)", key, moment)
    for day in (0, 2):
        sell_on(world, day, f"day {day}")
    world.run(5)
    assert [keys(world, world.run(day)["orders"].batch_id) for day in (2, 1, 0)] == [
        ["day 2"], ["first", "last"], ["day 0"],
    ]  # fmt: skip


def test_a_backfill_moves_no_horizon(world: World) -> None:
    world.run(3)
    sell_on(world, 9, "after")
    world.run(1)
    assert keys(world, world.run(4)["orders"].batch_id) == ["after"]
    assert world.run(5)["orders"].row_count == 0


def test_events_are_complete(world: World) -> None:
    world.declare("lines", mode="append")
    world.run(3)
    world.run(2)
    assert "events do not change, so they are complete" in world.said("backfilled")


def test_a_day_within_a_committed_interval_is_a_backfill(world: World) -> None:
    sell_on(world, 2, "inside")
    take_snapshot(world.dsn, world.warehouse, world.registry, "shop", DAY, DAY + timedelta(days=5), AS_OF)
    assert keys(world, world.run(2)["orders"].batch_id) == ["inside"]
    assert keys(world, world.run(5)["orders"].batch_id) == []
    assert [kind for _, kind, _ in world.notes()] == ["backfilled"] * 2


def test_the_next_day_is_no_backfill(world: World) -> None:
    world.run(0)
    sell_on(world, 1, "next")
    assert keys(world, world.run(4)["orders"].batch_id) == ["next"]
    assert world.notes() == []


def test_a_choice_of_tables_is_loaded_alone_and_says_so(world: World) -> None:
    batches = world.run(0, tables=["lines"])
    assert {name: batch.outcome for name, batch in batches.items()} == {"lines": "loaded"}
    assert world.notes() == [("lines", "other_snapshot", "warn")]
    world.sell("insert into shop.lines values ('o1', 2, 1, '{}', null)")
    batches = world.run(0)
    assert {name: batch.outcome for name, batch in batches.items()} == {"orders": "loaded", "lines": "committed"}
    assert world.notes()[1:] == [("orders", "other_snapshot", "warn")]
    assert len(world.ask("select distinct snapshot from ops.batches")) == 2
    assert world.run(1)["lines"].row_count == 1
    assert len(world.notes()) == 2
    assert len(world.ask("select distinct snapshot from ops.batches where interval_end > %s", DAY + timedelta(1))) == 1


@pytest.mark.parametrize("choice", [{"tables": ["order"]}, {"accept_deletions": ["orders; drop schema raw"]}])
def test_a_table_nobody_declared_is_refused(world: World, choice: dict[str, list[str]]) -> None:
    with pytest.raises(RegistryError, match=r"no source has a table 'order.*declared are shop.orders, shop.lines"):
        world.run(0, **choice)
    assert world.loaded() == (0, 0, 0)


def test_ten_minutes_of_clock_skew_lose_nothing(world: World) -> None:
    """Only the source's transactions count: neither the application's clock nor ours decides what is new."""
    now = datetime.now(UTC)
    for number, minutes in enumerate((-10, 10, 0, -10, 10)):
        world.sell(
            "insert into shop.orders values (%s, 1, 'EUR', null, %s)", f"k{number}", now + timedelta(minutes=minutes)
        )
        assert f"k{number}" in keys(world, world.run(number)["orders"].batch_id)
    assert world.ask("select count(distinct order_id) from raw.shop_orders") == [(305,)]


def test_ties_at_the_edge_are_neither_lost_nor_doubled(world: World) -> None:
    """A hundred rows of one moment, committed in turns around the snapshots."""
    world.run()
    for number in range(5):
        world.sell(
            "insert into shop.orders select 'tie' || %s || '-' || i, 1, 'EUR', null, '2026-10-19 12:00+00' "
            "from generate_series(1, 20) i",
            number,
        )
        assert world.run(number + 1)["orders"].row_count == 20
    assert world.ask("select count(*), count(distinct order_id) from raw.shop_orders") == [(400, 400)]
