"""Runs worlds through the daily closes of a deployed warehouse: load, open, build, publish, compare."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from tests.bench.match.load import Loader
from tests.bench.match.plan import Plan
from tests.bench.match.score import TRUTH_TABLE, Score, compare, write_truth
from tests.bench.match.world import World
from tests.dbt.worlds import EMPTY, Warehouse
from tieout import close
from tieout.postgres import Cluster, ensure_roles, free_port


@dataclass
class Closed:
    """What came of a world: its score, and per close the rows consumed and the seconds the close took."""

    plan: Plan
    score: Score
    unexplained: int = 0
    rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    sql_seconds: list[float] = field(default_factory=list)
    open_items: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


@contextmanager
def warehouse(folder: Path) -> Iterator[Warehouse]:
    """A server of the benchmark's own with a deployed warehouse, gone at the end."""
    cluster = Cluster(folder / "pg", free_port())
    try:
        cluster.start()
        with cluster.connect() as connection:
            ensure_roles(connection)
        made = Warehouse(cluster, folder / "state")
        made.deploy()
        yield made
    finally:
        cluster.stop("immediate")


def play(books: Warehouse, plan: Plan, upto: int | None = None, say: bool = True) -> Closed:
    """Close every day of a world and hold each register against the truth.

    :param upto: stop after so many closes.
    """
    books.restore(EMPTY)
    _overrule_lags(books, plan)
    books.execute(TRUTH_TABLE)
    world = World(plan)
    days: Sequence[date] = world.stage.days.closes
    done = Closed(plan, Score())
    with books.connect() as connection, connection.cursor() as cursor:
        loader = Loader(cursor)
    for delivery in world.play():
        if upto is not None and delivery.close >= upto:
            break
        with books.connect() as connection, connection.cursor() as cursor:
            rows = loader.load(cursor, delivery)
            write_truth(cursor, delivery.truth, days)
            cursor.execute("analyze bench.truth")
        began = time.monotonic()
        opened = books.open_close(delivery.business_date)
        try:
            steps = [close.build(books.server(), opened.close_id, opened.fencing_token, step, books.state)
                     for step in ("reconcile", "books", "monitoring")]  # fmt: skip
        except close.CloseNotProven as failure:
            done.failures.append(str(failure))
            done.unexplained += 1
            print(failure)
            break
        books.publish(opened)
        done.seconds.append(time.monotonic() - began)
        done.sql_seconds.append(sum(step.sql_seconds for step in steps))
        done.rows.append(rows)
        _judge(books, delivery.business_date, done)
        if say:
            print(f"  {plan.seed:9} {delivery.business_date} {rows:9,} rows {done.seconds[-1]:6.1f} s "
                  f"{done.open_items[-1]:8,} open {len(done.score.wrong):6,} wrong so far", flush=True)  # fmt: skip
    return done


def _judge(books: Warehouse, day: date, done: Closed) -> None:
    """Compare a published close, and count what no proof explains."""
    with books.connect() as connection, connection.cursor() as cursor:
        compare(cursor, day, done.score)
        for proof in ("proof_items", "proof_clearing"):
            cursor.execute(f"select count(*), count(*) filter (where not is_proven) from published.{proof} "
                           "where business_date = %s", (day,))  # fmt: skip
            ((lines, unproven),) = cursor.fetchall()
            # A proof without lines proves nothing.
            done.unexplained += unproven + (lines == 0)
        cursor.execute(
            "select count(*) from published.reconciliation_items where business_date = %s and status = 'open'", (day,)
        )
        ((count,),) = cursor.fetchall()
        done.open_items.append(count)


def _overrule_lags(books: Warehouse, plan: Plan) -> None:
    """Tell the deployed seed of the lags that a world has instead of the usual ones."""
    if not plan.lags:
        return
    ((schema,),) = books.query("select table_schema from information_schema.tables where table_name = 'processors'")
    for processor, lag in plan.lags.items():
        books.execute(f"update {schema}.processors set settlement_lag_business_days = %s where processor = %s",
                      (lag, processor))  # fmt: skip


def warehouse_sizes(books: Warehouse, close_id: int) -> tuple[int, int]:
    """Items of a close that ask for a partner: left and right."""
    ((left, right),) = books.query(
        "select count(*) filter (where side = 'left'), count(*) filter (where side = 'right') "
        "from reconciliation.reconciliation_items where close_id = %s and status <> 'excluded'", (close_id,),
    )  # fmt: skip
    return left, right
