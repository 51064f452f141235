"""Extraction under faults: at every failpoint, whatever ends the run, one re-run makes raw what a quiet run makes it.

Every point of :class:`Failpoint` is tried, so a new one is tested by being there.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tieout.failpoints import VARIABLE, Failpoint
from tieout.postgres import Cluster, ensure_roles, free_port, migrate
from tieout.snapshot import Batch, take_snapshot
from tieout.sources import Registry, ensure_raw_tables, load_registry

ROOT = Path(__file__).resolve().parents[2]
DAY = datetime(2026, 10, 19, tzinfo=UTC)
AS_OF = datetime(2026, 10, 21, 4, tzinfo=UTC)
# Long enough to look which point was reached and to cut, on a busy machine.
CUT_WITHIN_S = 1.0
# Reached once for each of the two tables.
ONCE_A_TABLE = [point for point in Failpoint if point.value.startswith("batch.") or point is Failpoint.MID_COPY]
TURNS = [*((point, 1) for point in Failpoint), *((point, 2) for point in ONCE_A_TABLE)]

DECLARATION = """
sources:
  - name: shop
    schema: raw
    config:
      meta: {owner: payments-data, kind: snapshot, connection: shop, schema: shop, classification: internal,
             mode: incremental, cursor: updated_at}
    tables:
      - name: orders
        identifier: shop_orders
        config: {meta: {key: [order_id], amounts: {amount_minor: currency}}}
        columns:
          - {name: order_id, data_type: bigint, constraints: [{type: not_null}]}
          - {name: amount_minor, data_type: bigint, constraints: [{type: not_null}]}
          - {name: currency, data_type: text, constraints: [{type: not_null}]}
          - {name: note, data_type: text}
          - {name: updated_at, data_type: timestamptz, constraints: [{type: not_null}]}
      - name: lines
        identifier: shop_lines
        config: {meta: {key: [order_id, line_no], mode: append}}
        columns:
          - {name: order_id, data_type: bigint, constraints: [{type: not_null}]}
          - {name: line_no, data_type: integer, constraints: [{type: not_null}]}
          - {name: updated_at, data_type: timestamptz, constraints: [{type: not_null}]}
"""
# The moment is the application's: it says when the row was made, not when it could be seen.
SOURCE_TABLES = """
create schema shop;
create table shop.orders (
    order_id bigint primary key, amount_minor bigint not null, currency text not null, note text,
    updated_at timestamptz not null default clock_timestamp()
);
create table shop.lines (
    order_id bigint not null, line_no integer not null, updated_at timestamptz not null default clock_timestamp(),
    primary key (order_id, line_no)
);
"""
FIRST_DAY = """
insert into shop.orders select i, i * 7, (array['EUR', 'JPY', 'KWD'])[1 + i % 3], null from generate_series(1, 500) i;
insert into shop.lines select i, 1 from generate_series(1, 500) i;
"""
# Wide enough for several pieces of a COPY.
SECOND_DAY = """
update shop.orders set amount_minor = amount_minor + 1 where order_id % 5 = 0;
insert into shop.orders select i, i * 7, 'EUR', repeat(md5(i::text), 30) from generate_series(501, 1500) i;
insert into shop.lines select i, 1 from generate_series(501, 1500) i;
"""
CHILD = """
import sys
from datetime import datetime, timedelta
from pathlib import Path
import psycopg2
from tieout.snapshot import take_snapshot
from tieout.sources import load_registry
source, warehouse, project, start, as_of = sys.argv[1:]
start = datetime.fromisoformat(start)
take_snapshot(
    source, psycopg2.connect(warehouse), load_registry(Path(project)), "shop", start, start + timedelta(days=1),
    datetime.fromisoformat(as_of),
)
"""
# Batch numbers are left out: a run that failed has used some up.
STATE = {
    "orders": "select b.interval_start, r.order_id, r.amount_minor, r.currency, r.note, r.updated_at "
    "from raw.shop_orders r join ops.batches b using (batch_id)",
    "lines": "select b.interval_start, r.order_id, r.line_no, r.updated_at "
    "from raw.shop_lines r join ops.batches b using (batch_id)",
    "batches": "select source, table_name, interval_start, interval_end, row_count, key_hash, content_until, as_of, "
    "horizon is not null, source_identity from ops.batches",
    "totals": "select b.table_name, b.interval_start, t.measure, t.currency, t.row_count, t.sum_minor "
    "from ops.batch_totals t join ops.batches b using (batch_id)",
    "orphans": "select batch_id from raw.shop_orders where batch_id not in (select batch_id from ops.batches) "
    "union all select batch_id from raw.shop_lines where batch_id not in (select batch_id from ops.batches)",
}


@dataclass
class Shop:
    """A shop on the second day, and a warehouse template that holds the first."""

    cluster: Cluster
    project: Path
    registry: Registry
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def load(self, warehouse: str, day: int, source: str = "shop") -> list[Batch]:
        connection = psycopg2.connect(self.cluster.dsn(warehouse, "loader"))
        start = DAY + timedelta(days=day)
        try:
            return take_snapshot(
                self.cluster.dsn(source), connection, self.registry, "shop", start, start + timedelta(days=1), AS_OF
            )
        finally:
            connection.close()

    def clone(self, template: str = "first_day") -> str:
        name = f"{template}_{next(self.numbers)}"
        self.cluster.execute(f"create database {name} template {template}")
        return name

    def digest(self, warehouse: str) -> dict[str, str]:
        with self.cluster.connect(warehouse) as connection, connection.cursor() as cursor:
            found = {}
            for part, query in STATE.items():
                cursor.execute(
                    f"select count(*) || ' rows ' || coalesce(md5(string_agg(q::text, '|' order by q::text)), '') "
                    f"from ({query}) q"
                )
                found[part] = str((cursor.fetchone() or ("",))[0])
        return found

    def start_child(self, warehouse: str, failpoints: str) -> subprocess.Popen[str]:
        start = (DAY + timedelta(days=1)).isoformat()
        return subprocess.Popen(
            [
                sys.executable, "-c", CHILD, self.cluster.dsn("shop"), self.cluster.dsn(warehouse, "loader"),
                str(self.project), start, AS_OF.isoformat(),
            ],
            env={**os.environ, VARIABLE: failpoints, "PYTHONPATH": str(ROOT / "plugins")},
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def execute(self, database: str, statement: str, *arguments: Any) -> None:
        with self.cluster.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement, arguments or None)

    def hang_up(self, database: str) -> None:
        """Cut every connection to a database, as a failed-over server or a firewall does."""
        self.execute(
            "postgres",
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = %s",
            database,
        )


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """On a server of its own, which tests stop."""
    directory = Path(tempfile.mkdtemp(prefix="tieout-faults-", dir="/tmp"))
    directory.chmod(0o755)
    cluster = Cluster(directory / "pg", free_port())
    try:
        cluster.start()
        project = directory / "project"
        (project / "models").mkdir(parents=True)
        (project / "models" / "shop.yml").write_text(DECLARATION)
        made = Shop(cluster, project, load_registry(project))
        cluster.execute("create database shop")
        cluster.execute("create database empty")
        with cluster.connect("empty") as connection:
            ensure_roles(connection)
            migrate(connection)
            ensure_raw_tables(connection, made.registry)
        cluster.execute("create database first_day template empty")
        made.execute("shop", SOURCE_TABLES)
        made.execute("shop", FIRST_DAY)
        made.load("first_day", 0)
        made.execute("shop", SECOND_DAY)
        quiet = made.clone()
        made.before = made.digest(quiet)
        assert [batch.row_count for batch in made.load(quiet, 1)] == [1100, 1000]
        made.after = made.digest(quiet)
        assert made.after != made.before
        yield made
    finally:
        cluster.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


def said_by(child: subprocess.Popen[str]) -> str:
    _, said = child.communicate(timeout=60)
    return said


@pytest.mark.parametrize("action", ["kill", "raise"])
@pytest.mark.parametrize(("point", "turn"), TURNS, ids=[f"{point.value}@{turn}" for point, turn in TURNS])
def test_a_run_that_dies_anywhere_leaves_all_or_nothing(shop: Shop, point: Failpoint, turn: int, action: str) -> None:
    warehouse = shop.clone()
    child = shop.start_child(warehouse, f"{point.value}={action}@{turn}")
    said = said_by(child)
    assert child.returncode == (-signal.SIGKILL if action == "kill" else 1), said
    if action == "raise":
        assert "FailpointReached" in said
        assert point.value in said
    assert shop.digest(warehouse) == (shop.after if point is Failpoint.AFTER_COMMIT else shop.before)
    again = shop.load(warehouse, 1)
    assert {batch.outcome for batch in again} == {"committed" if point is Failpoint.AFTER_COMMIT else "loaded"}
    assert shop.digest(warehouse) == shop.after


@pytest.mark.parametrize("fault", ["source hangs up", "warehouse hangs up", "server stops"])
@pytest.mark.parametrize("point", Failpoint, ids=lambda point: point.value)
def test_a_database_that_goes_away_anywhere_costs_one_rerun(shop: Shop, point: Failpoint, fault: str) -> None:
    warehouse = shop.clone()
    child = shop.start_child(warehouse, f"{point.value}=sleep:{CUT_WITHIN_S}")
    assert child.stderr is not None
    assert child.stderr.readline() == f"reached {point.value}\n"
    reached = time.monotonic()
    if fault == "server stops":
        shop.cluster.stop("immediate")
    else:
        shop.hang_up("shop" if fault == "source hangs up" else warehouse)
    in_time = time.monotonic() - reached < CUT_WITHIN_S
    said = said_by(child)
    shop.cluster.start()
    # A source that hangs up when all is read does no harm; whoever says it succeeded has committed.
    expected = shop.after if child.returncode == 0 or point is Failpoint.AFTER_COMMIT else shop.before
    assert shop.digest(warehouse) == expected, said
    if fault == "source hangs up":
        assert in_time, "the cut came too late to tell anything"
    elif point is not Failpoint.AFTER_COMMIT:
        assert child.returncode == 1, "the run did not notice, or the cut came too late"
    shop.load(warehouse, 1)
    assert shop.digest(warehouse) == shop.after


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
    source, warehouse = "late_shop", shop.clone("empty")
    shop.cluster.execute(f"create database {source}")
    shop.execute(source, SOURCE_TABLES)
    dsn = shop.cluster.dsn(source)
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
    with shop.cluster.connect(warehouse) as connection, connection.cursor() as cursor:
        cursor.execute("select count(distinct order_id) from raw.shop_orders")
        found = int((cursor.fetchone() or (0,))[0])
        cursor.execute("select count(distinct order_id) from raw.shop_lines")
        lines = int((cursor.fetchone() or (0,))[0])
    said = (
        f"\n{transactions} transactions with random commit delays, {batches + 1} extractions: "
        f"tieout lost {transactions - found}, a cursor on updated_at lost {naive_lost}"
    )
    with capsys.disabled():
        print(said)
    assert (found, lines) == (transactions, transactions)
    assert batches > 5
    assert naive_lost > 0, "the delays were too short to lose anything: this run proved nothing"
