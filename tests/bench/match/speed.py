"""Matching a million items with a million: Tieout's models against a full join written by hand, side by side.

Both start from the same table of items and end with the same columns, one row an item, in a logged table with the same
indexes, analysed. The hand-written one pairs by reference and names what differs; it knows no fallback, no tolerance
per rule, no fees, no repeats. They take turns in every round and are compared within a round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

from tests.bench.match.closes import warehouse_sizes
from tests.bench.match.load import Loader
from tests.bench.match.plan import Plan
from tests.bench.match.world import World
from tests.dbt.worlds import EMPTY, Warehouse
from tieout import close

# The models that turn items into decided items; staging them is not matching.
MATCHING = ("int_matches", "int_expected_fees", "reconciliation_items")
WANTED_RATIO = 3.0
# What the join by hand can know of a column; all others are taken from the item as they are.
BY_HAND: Mapping[str, str] = {
    "status": "case when code is null then 'matched' else 'open' end",
    "break_code": "code",
    "rule_id": "'reference'",
    "group_id": "coalesce(item.strong_key, item.item_key)",
    "group_left_minor": "left_minor",
    "group_right_minor": "right_minor",
    "clearing_minor": "case item.side when 'left' then item.amount_minor else -item.amount_minor end",
    "ledger_date": "left_date",
    "reported_date": "right_date",
}
JOIN = """
insert into bench.by_hand
with paired as (
    select ours.item_key as left_key, theirs.item_key as right_key,
        ours.amount_minor as left_minor, theirs.amount_minor as right_minor,
        ours.value_date as left_date, theirs.value_date as right_date,
        case
            when theirs.item_key is null then
                case when ours.due_date >= date '{day}' then 'EXPECTED_NOT_DUE' else 'IN_LEDGER_NOT_PSP' end
            when ours.item_key is null then 'IN_PSP_NOT_LEDGER'
            when ours.currency <> theirs.currency then 'CURRENCY_MISMATCH'
            when theirs.amount_minor < ours.amount_minor then 'UNDER'
            when theirs.amount_minor > ours.amount_minor then 'OVER'
        end as code
    from (select * from {items} where side = 'left' and exclusion_reason is null) as ours
    full join (select * from {items} where side = 'right' and exclusion_reason is null) as theirs
        on ours.reconciliation = theirs.reconciliation and ours.strong_key = theirs.strong_key
)
select {columns} from paired join {items} as item on item.item_key = paired.left_key
union all
select {columns} from paired join {items} as item on item.item_key = paired.right_key
"""


def run(books: Warehouse, plan: Plan, rounds: int) -> dict[str, object]:
    """Load a whole world into one close, and let both match it in turns.

    :returns: items, seconds and ratios for the result line.
    """
    books.restore(EMPTY)
    world = World(plan)
    last = world.stage.days.closes[-1]
    with books.connect() as connection, connection.cursor() as cursor:
        loader = Loader(cursor)
        rows = sum(loader.load(cursor, delivery) for delivery in world.play())
    opened = books.open_close(last)
    ours: list[float] = []
    theirs: list[float] = []
    whole: list[float] = []
    for number in range(rounds):
        # No close has rows of its own to take away first, and the join by hand begins empty.
        books.execute("truncate reconciliation.reconciliation_items")
        step = close.build(books.server(), opened.close_id, opened.fencing_token, "reconcile", books.state)
        took = {node.node: node.seconds for node in step.nodes if node.resource_type == "model"}
        ours.append(sum(took[name] for name in MATCHING))
        whole.append(step.sql_seconds)
        theirs.append(_by_hand(books, last.isoformat()))
        print(f"  round {number + 1}: tieout {ours[-1]:.1f} s (all SQL of the step {whole[-1]:.1f} s), by hand "
              f"{theirs[-1]:.1f} s, {ours[-1] / theirs[-1]:.2f}x", flush=True)  # fmt: skip
    left, right = warehouse_sizes(books, opened.close_id)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    seconds = statistics.median(ours)
    print(f"{left:,} x {right:,} items of {rows:,} rows: {ratio:.2f}x the join by hand (at most {WANTED_RATIO})")
    return {
        "rows": rows, "left": left, "right": right, "tieout_s": round(seconds, 2),
        "by_hand_s": round(statistics.median(theirs), 2), "ratio": round(ratio, 3), "wanted": WANTED_RATIO,
        "items_per_s": round((left + right) / seconds), "step_s": round(statistics.median(whole), 2),
        "rounds": [(round(a, 2), round(b, 2)) for a, b in zip(ours, theirs, strict=True)],
    }  # fmt: skip


def _by_hand(books: Warehouse, day: str) -> float:
    """Seconds of the hand-written join into an empty, indexed, logged table, analysed."""
    ((items,),) = books.query(
        "select table_schema || '.int_items' from information_schema.tables where table_name = 'int_items'"
    )
    columns = books.query(
        "select column_name, data_type from information_schema.columns where table_schema = 'reconciliation' "
        "and table_name = 'reconciliation_items' order by ordinal_position"
    )
    known = {name for (name,) in books.query(
        "select column_name from information_schema.columns where table_name = 'int_items'"
    )}  # fmt: skip
    chosen = []
    for name, data_type in columns:
        if name in BY_HAND:
            chosen.append(f"{BY_HAND[name]} as {name}")
        elif name == "close_id":
            chosen.append(f"1 as {name}")
        elif name == "business_date":
            chosen.append(f"date '{day}' as {name}")
        else:
            chosen.append(f"item.{name}" if name in known else f"null::{data_type} as {name}")
    books.execute("create schema if not exists bench")
    books.execute("drop table if exists bench.by_hand")
    books.execute("create table bench.by_hand (like reconciliation.reconciliation_items including indexes)")
    # A join by hand gives an item twice that has two partners, so the index on its key is as large and not unique.
    books.execute("alter table bench.by_hand drop constraint by_hand_pkey")
    books.execute("create index on bench.by_hand (close_id, item_key)")
    books.cluster.execute("checkpoint")
    statement = JOIN.format(items=items, day=day, columns=", ".join(chosen))
    began = time.monotonic()
    books.execute(statement)
    books.execute("set default_statistics_target to 20; analyze bench.by_hand")
    return time.monotonic() - began
