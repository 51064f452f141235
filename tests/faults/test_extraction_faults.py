"""Extraction from a source that is being written to: no row is lost, none is torn from the rows it belongs to."""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import psycopg2
import pytest

from tests.faults.stand import SOURCE_TABLES, Shop

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
    source, warehouse = "late_shop", shop.stand.clone("empty")
    shop.stand.cluster.execute(f"create database {source}")
    shop.stand.execute(source, SOURCE_TABLES)
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
    assert batches > 5
    assert naive_lost > 0, "the delays were too short to lose anything: this run proved nothing"
