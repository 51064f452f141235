"""Extraction from a source that is being written to: no row is lost, none is torn from the rows it belongs to."""

from __future__ import annotations

import itertools
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from hypothesis.strategies import booleans, integers, sampled_from

from tests.faults.stand import Shop

MISSED = "select * from ops.sweeps where rows_missed > 0"

# --- Commits that come late ---


def insert_late(dsn: str, ids: list[int], seed: int, slowest_s: float) -> None:
    """Insert orders one transaction each; stamp the row at once, commit after a random while."""
    chance = random.Random(seed)
    connection = psycopg2.connect(dsn)
    try:
        for order in ids:
            with connection, connection.cursor() as cursor:
                if chance.random() < 0.3:
                    cursor.execute("savepoint nested")
                cursor.execute("insert into shop.orders values (%s, 1, 'EUR', null)", (order,))
                cursor.execute("insert into shop.lines values (%s, 1)", (order,))
                # Most commits are quick, few are slow: the tail is what a cursor loses.
                time.sleep(slowest_s * chance.random() ** 6)
    finally:
        connection.close()


def follow_naively(dsn: str, stop: threading.Event) -> set[int]:
    """What everyone writes first: rows above the highest updated_at seen so far."""
    seen: set[int] = set()
    watermark = datetime(1970, 1, 1, tzinfo=UTC)
    connection = psycopg2.connect(dsn)
    connection.autocommit = True
    try:
        last = False
        while not last:
            last = stop.is_set()
            with connection.cursor() as cursor:
                cursor.execute("select order_id, updated_at from shop.orders where updated_at > %s", (watermark,))
                for order, moment in cursor.fetchall():
                    seen.add(order)
                    watermark = max(watermark, moment)
            time.sleep(0.02)
    finally:
        connection.close()
    return seen


def test_no_late_commit_is_lost_while_extraction_goes_on(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Money lost: a payment whose transaction committed after the snapshot that had seen later ones.

    ``TIEOUT_LATE_COMMITS=10000`` is the long run.
    """
    transactions, writers = int(os.environ.get("TIEOUT_LATE_COMMITS", "400")), 8
    source, warehouse = shop.stand.make_source(), shop.stand.clone("empty")
    dsn = shop.stand.cluster.dsn(source)
    stop = threading.Event()
    batches = 0
    with ThreadPoolExecutor(writers + 1) as threads:
        naive = threads.submit(follow_naively, dsn, stop)
        writing = [
            threads.submit(insert_late, dsn, list(range(first, transactions, writers)), first, 0.5)
            for first in range(writers)
        ]
        try:
            while not all(future.done() for future in writing):
                shop.load(warehouse, batches, source)
                batches += 1
        finally:
            stop.set()
        for future in writing:
            future.result()
        naive_lost = transactions - len(naive.result())
    shop.load(warehouse, batches, source)
    ((found,),) = shop.stand.ask(warehouse, "select count(distinct order_id) from raw.shop_orders")
    ((lines,),) = shop.stand.ask(warehouse, "select count(distinct order_id) from raw.shop_lines")
    said = (
        f"\n{transactions} transactions with random commit delays, {batches + 1} extractions: "
        f"tieout lost {transactions - found}, a cursor on updated_at lost {naive_lost}"
    )
    with capsys.disabled():
        print(said)
    assert (found, lines) == (transactions, transactions)
    assert shop.stand.ask(warehouse, MISSED) == [], "a sweep had to find what the horizon did not show"
    assert batches > 5
    assert naive_lost > 0, "the delays were too short to lose anything: this run proved nothing"


# --- Rows that belong together ---


def write_pairs(dsn: str, ids: range, seed: int, stop: threading.Event) -> int:
    """Orders that say how many lines they have: each transaction makes one, or adds a line to one; how many it did."""
    chance = random.Random(seed)
    lines: dict[int, int] = {}
    fresh = iter(ids)
    done = 0
    with closing(psycopg2.connect(dsn)) as connection:
        while not stop.is_set():
            with connection, connection.cursor() as cursor:
                if lines and chance.random() < 0.5:
                    order = chance.choice(list(lines))
                    lines[order] += 1
                    cursor.execute(
                        "update shop.orders set amount_minor = %s where order_id = %s", (lines[order], order)
                    )
                    cursor.execute("insert into shop.lines values (%s, %s)", (order, lines[order]))
                else:
                    order = next(fresh)
                    lines[order] = chance.randint(1, 4)
                    cursor.execute("insert into shop.orders values (%s, %s, 'EUR')", (order, lines[order]))
                    cursor.execute(
                        "insert into shop.lines select %s, n from generate_series(1, %s) n", (order, lines[order])
                    )
            done += 1
            time.sleep(0.002)  # leaves the machine to the extraction
    return done


# Orders whose lines are not as many as they say, of those that came with the newest interval.
TORN = """
with newest as (select batch_id from ops.batches order by interval_end desc, batch_id limit 2),
    touched as (
        select order_id from raw.shop_orders where batch_id in (select batch_id from newest)
        union select order_id from raw.shop_lines where batch_id in (select batch_id from newest)
    ),
    orders as (
        select distinct on (order_id) order_id, amount_minor from raw.shop_orders join touched using (order_id)
        order by order_id, batch_id desc
    ),
    lines as (
        select order_id, count(distinct line_no) as lines from raw.shop_lines join touched using (order_id) group by 1
    )
select (select count(*) from touched),
    (select count(*) from orders full join lines using (order_id) where amount_minor is distinct from lines)
"""


def test_no_snapshot_is_torn_across_tables(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """Money that is on one side only: an order without its lines, or lines of an order that is not there yet."""
    snapshots, writers = 200 if os.environ.get("TIEOUT_FAULTS") == "long" else 60, 2
    source, warehouse = shop.stand.make_source(), shop.stand.clone("empty")
    dsn = shop.stand.cluster.dsn(source)
    # Both tables have a row: an empty one would be swept each time.
    shop.stand.execute(source, "insert into shop.orders values (0, 1, 'EUR'); insert into shop.lines values (0, 1)")
    stop = threading.Event()
    torn = naively_torn = compared = 0
    with (
        ThreadPoolExecutor(writers) as threads,
        closing(psycopg2.connect(shop.dsn(warehouse))) as loader,
        closing(psycopg2.connect(shop.dsn(warehouse))) as reader,
        closing(psycopg2.connect(dsn)) as naive,
    ):
        naive.autocommit = True
        first = range(1, 1 + writers * 10**6, 10**6)
        writing = [threads.submit(write_pairs, dsn, range(start, start + 10**6), start, stop) for start in first]
        try:
            for day in range(snapshots):
                shop.extract(loader, day, dsn)
                with reader, reader.cursor() as cursor:
                    cursor.execute(TORN)
                    touched, differing = cursor.fetchone() or (0, 0)
                compared += touched
                torn += differing > 0
                with naive.cursor() as cursor:
                    cursor.execute("select order_id, amount_minor from shop.orders")
                    said = dict(cursor.fetchall())
                    cursor.execute("select order_id, count(*) from shop.lines group by 1")
                    naively_torn += said != dict(cursor.fetchall())
        finally:
            stop.set()
        written = sum(future.result() for future in writing)
    with capsys.disabled():
        print(
            f"\n{snapshots} snapshots beside {written} transactions of {writers} writers: tieout tore {torn}, "
            f"two selects one after the other tore {naively_torn}"
        )
    assert torn == 0
    assert compared > snapshots, "nothing was written: this run proved nothing"
    assert naively_torn > 0, "nothing was written between two selects: this run proved nothing"


# --- Clocks and ties ---


LATEST = (
    "select distinct on (order_id) order_id, amount_minor from raw.shop_orders where order_id >= %s "
    "order by order_id, batch_id desc"
)


@pytest.mark.parametrize("minutes", [10, -10], ids=["ahead", "behind"])
def test_a_source_whose_application_has_another_clock_loses_no_row(shop: Shop, minutes: int) -> None:
    """The clock is wrong, then it is set right; a cursor on updated_at loses what comes before its watermark."""
    source, warehouse = shop.stand.make_source(), shop.stand.clone("empty")
    naive: set[int] = set()
    watermark = datetime(1970, 1, 1, tzinfo=UTC)
    skews = [0, minutes, minutes, 0, 0]
    for day, skew in enumerate(skews):
        shop.stand.execute(
            source,
            "insert into shop.orders select %s * 10 + i, 7, 'EUR', null, clock_timestamp() + %s * interval '1 minute' "
            "from generate_series(1, 5) i",
            day, skew,
        )  # fmt: skip
        shop.load(warehouse, day, source)
        for order, moment in shop.stand.ask(
            source, "select order_id, updated_at from shop.orders where updated_at > %s", watermark
        ):
            naive.add(order)
            watermark = max(watermark, moment)
    everything = set(dict(shop.stand.ask(source, "select order_id, 1 from shop.orders")))
    assert len(everything) == 25
    assert set(dict(shop.stand.ask(warehouse, LATEST, 0))) == everything
    assert shop.stand.ask(warehouse, MISSED) == []
    assert len(everything - naive) == 10, "a cursor on updated_at lost nothing: this run proved nothing"
    # A transaction that nobody has open is not read twice.
    assert shop.stand.ask(warehouse, "select count(*) from raw.shop_orders") == [(25,)]


# What an application may write into updated_at: the same moment as everybody, its clock ahead, its clock behind.
STAMPS = {
    "tie": "timestamptz '2026-10-20 12:00Z'",
    "ahead": "now() + interval '10 min'",
    "behind": "now() - interval '10 min'",
}
TWICE = "select batch_id, order_id from raw.shop_orders group by 1, 2 having count(*) > 1"


def test_raw_is_what_was_committed_whatever_the_order_of_things(shop: Shop) -> None:
    """Rows tied on one moment, written by transactions that overlap the snapshots and each other, some taken back.

    The model is plain: what a transaction wrote is there once it has committed. Values are in no order of time.
    """
    source, warehouse = shop.stand.make_source(), shop.stand.clone("empty")
    dsn = shop.stand.cluster.dsn(source)
    days, numbers = itertools.count(), itertools.count(1)
    snapshots = 0

    class Trade(RuleBasedStateMachine):
        """Three sessions at the source, and the extraction beside them."""

        def __init__(self) -> None:
            super().__init__()
            self.base = next(numbers)
            self.committed: dict[int, int] = {}
            self.sessions = [psycopg2.connect(dsn) for _ in range(3)]
            self.written: list[dict[int, int]] = [{} for _ in self.sessions]
            self.loader = psycopg2.connect(shop.dsn(warehouse))

        @rule(session=integers(0, 2), stamp=sampled_from(sorted(STAMPS)), nested=booleans())
        def insert(self, session: int, stamp: str, nested: bool) -> None:
            order = next(numbers)
            with self.sessions[session].cursor() as cursor:
                cursor.execute(
                    ("savepoint nested; " if nested else "")
                    + f"insert into shop.orders values (%s, 1, 'EUR', null, {STAMPS[stamp]})",
                    (order,),
                )
            self.written[session][order] = 1

        @rule(session=integers(0, 2), pick=integers(0, 99), bump=booleans())
        def update(self, session: int, pick: int, bump: bool) -> None:
            """With or without a new updated_at, of a row that nobody else holds."""
            held = {order for other, rows in enumerate(self.written) if other != session for order in rows}
            free = sorted(({**self.committed, **self.written[session]}).keys() - held)
            if not free:
                return
            order = free[pick % len(free)]
            amount = {**self.committed, **self.written[session]}[order] + 1
            touch = ", updated_at = now()" if bump else ""
            with self.sessions[session].cursor() as cursor:
                cursor.execute(
                    f"update shop.orders set amount_minor = %s{touch} where order_id = %s", (amount, order)
                )
            self.written[session][order] = amount

        @rule(session=integers(0, 2), keep=booleans())
        def end(self, session: int, keep: bool) -> None:
            """Commit, or take it back."""
            if keep:
                self.sessions[session].commit()
                self.committed.update(self.written[session])
            else:
                self.sessions[session].rollback()
            self.written[session] = {}

        @rule()
        def extract(self) -> None:
            nonlocal snapshots
            snapshots += 1
            shop.extract(self.loader, next(days), dsn)
            assert dict(shop.stand.ask(warehouse, LATEST, self.base)) == self.committed
            assert shop.stand.ask(warehouse, TWICE) == [], "a row came twice in one batch"
            assert shop.stand.ask(warehouse, MISSED) == [], "a sweep had to find what the horizon did not show"

        def teardown(self) -> None:
            """Whatever is open is taken back; then all must be there."""
            for connection in self.sessions:
                connection.close()
            try:
                self.extract()
            finally:
                self.loader.close()

    examples = 200 if os.environ.get("TIEOUT_FAULTS") == "long" else 8
    run_state_machine_as_test(Trade, settings=settings(max_examples=examples, stateful_step_count=25, deadline=None))
    assert snapshots > examples
