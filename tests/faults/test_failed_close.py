"""A close that cannot prove itself stops, says why, moves no pointer; repaired, it is taken over and published."""

from __future__ import annotations

from datetime import date

import psycopg2
import pytest

from tests.dbt.conftest import FAULTY_DAYS
from tests.dbt.worlds import Warehouse, World
from tieout import close
from tieout.close import Close, CloseNotProven, CloseRefused

DAY = FAULTY_DAYS[1]
A_CAPTURE = (
    "batch_id in (select batch_id from ops.batches where table_name = 'captures' and interval_end > %s) "
    "and capture_id = (select min(capture_id) from raw.payments_captures where batch_id in "
    "(select batch_id from ops.batches where table_name = 'captures' and interval_end > %s))"
)


def state_of(warehouse: Warehouse, close_id: int) -> tuple[str, str]:
    return warehouse.query("select state, coalesce(failure, '') from ops.closes where close_id = %s", (close_id,))[0]


def head(warehouse: Warehouse) -> date:
    return warehouse.query("select max(business_date) from ops.published")[0][0]


def refuses_to_publish(warehouse: Warehouse, opened: Close, why: str) -> None:
    before = warehouse.query("select count(*) from ledger.journal")
    with pytest.raises(psycopg2.Error, match=why):
        warehouse.publish(opened)
    assert warehouse.query("select count(*) from ledger.journal") == before
    assert head(warehouse) < opened.business_date


def test_a_close_that_failed_twice_is_repaired_taken_over_and_published(world: World) -> None:
    warehouse = world.warehouse
    warehouse.restore(world.loaded(DAY))
    resign = f"update raw.payments_captures set amount_minor = -amount_minor where {A_CAPTURE}"

    # The raw layer is not what the source had: the first proof holds the close back.
    assert warehouse.execute(resign, (DAY, DAY)) == 1
    first = warehouse.open_close(DAY)
    with pytest.raises(CloseNotProven, match=r"not proven at step reconcile") as stopped:
        warehouse.build(first)
    assert "source_to_raw captures.amount_minor" in str(stopped.value)
    assert "(batches " in str(stopped.value)
    state, failure = state_of(warehouse, first.close_id)
    assert state == "failed"
    assert "source_to_raw captures.amount_minor" in failure
    refuses_to_publish(warehouse, first, "only a proven close is published")
    with pytest.raises(CloseRefused, match=f"close {first.close_id} of {DAY} is failed"):
        warehouse.open_close(FAULTY_DAYS[1].replace(day=29))

    # Repaired; now the staged statement is wrong once the items are proven: the second proof holds it back.
    assert warehouse.execute(resign, (DAY, DAY)) == 1
    second = warehouse.open_close(DAY)
    assert (second.close_id, second.fencing_token) == (first.close_id, first.fencing_token + 1)
    with pytest.raises(CloseRefused, match="not at the step books: reconcile is not proven; run the DAG close for"):
        warehouse.build(second, "books")
    warehouse.build(second, "reconcile")
    # Deployed in between: half a close by the old rules and half by the new ones would be neither.
    with pytest.MonkeyPatch.context() as deployed:
        deployed.setattr(close, "project_digest", lambda: "newer")
        with pytest.raises(CloseRefused, match="the rules are not those"):
            warehouse.build(second, "books")
    account = warehouse.query("select bank_account from staging.stg_files__bank_statements where is_consumed_now")[0][0]
    warehouse.execute(
        "update staging.stg_files__bank_statements set closing_minor = closing_minor + 1 "
        "where bank_account = %s and is_consumed_now",
        (account,),
    )
    with pytest.raises(CloseNotProven, match=rf"not proven at step books:\n.*bank_balance {account}"):
        warehouse.build(second, "books")
    assert state_of(warehouse, second.close_id)[0] == "failed"
    with pytest.raises(CloseRefused, match="not at the step monitoring: books is not proven"):
        warehouse.build(second, "monitoring")
    assert state_of(warehouse, second.close_id)[0] == "failed"
    refuses_to_publish(warehouse, second, "only a proven close is published")

    # Taken over once more, over the same batches: the runs before it can no longer touch the close.
    third = warehouse.open_close(DAY)
    assert (third.close_id, third.fencing_token) == (first.close_id, first.fencing_token + 2)
    with pytest.raises(CloseRefused, match="taken over by another run"):
        warehouse.build(second, "reconcile")
    warehouse.build(third)
    assert state_of(warehouse, third.close_id) == ("proven", "")
    refuses_to_publish(warehouse, second, "taken over by another run")

    # Whatever happened on the way, the close is the one that nothing ever happened to.
    clean = warehouse.digest(world.closes[DAY].close_id, world.proven(DAY))
    assert all(rows for rows, _ in (clean["reconciliation.reconciliation_items"], clean["accounting.journal_proposed"]))
    assert warehouse.digest(third.close_id) == clean

    # The step after the proof fails, and is tried again by itself.
    warehouse.execute("update ops.closes set state = 'failed', failure = 'kpis' where close_id = %s", (third.close_id,))
    warehouse.build(third, "monitoring")
    assert state_of(warehouse, third.close_id)[0] == "proven"
    assert warehouse.publish(third) > 0
    assert head(warehouse) == DAY
