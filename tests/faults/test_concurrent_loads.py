"""Two runs of one load, a run that sleeps while its twin overtakes it, a run that another session deadlocks."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from psycopg2 import errors

from tests.faults.conftest import Loads
from tests.faults.stand import FROZEN, Load, Shop, Stand
from tieout.extraction import snapshot
from tieout.extraction.snapshot import SnapshotError
from tieout.failpoints import Failpoint

ROUNDS = 10
WAIT_S = 30
# The tables that a run writes first and last: entries of a statement go to raw while the file is read.
TABLES = {"extraction": ("shop_orders", "shop_lines"), "files": ("bank_entries", "bank_statements")}


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_of_two_processes_that_start_at_once_one_loads(load: Load, isolation: str) -> None:
    """Money doubled: the same interval, or the same file, loaded by a scheduler's two workers."""
    overlapping = 0
    with closing(load.start("", dsn="-")) as one, closing(load.start("", dsn="-")) as other:
        for _ in range(ROUNDS // 2):
            warehouse = load.stand.clone(load.template)
            # What a database makes of a transaction that does not say: ours does.
            load.stand.cluster.execute(
                f"alter database {warehouse} set default_transaction_isolation = '{isolation}'"
            )
            for child in (one, other):
                child.tell(load.dsn(warehouse))
            (began, ended, outcomes), (other_began, other_ended, other_outcomes) = one.hear(), other.hear()
            overlapping += began < other_ended and other_began < ended
            for pair in zip(outcomes, other_outcomes, strict=True):
                assert len({"committed", "known"} & set(pair)) == 1, (outcomes, other_outcomes)
            assert load.digest(warehouse) == load.states[-1]
    assert overlapping > ROUNDS // 4, "they ran one after the other: this proved nothing"


def wait_for_a_waiter(stand: Stand, warehouse: str) -> None:
    """Until a session in this warehouse waits for a lock."""
    deadline = time.monotonic() + WAIT_S
    while not stand.ask(
        "postgres",
        "select 1 from pg_stat_activity where datname = %s and wait_event_type = 'Lock'",
        warehouse,
    ):
        assert time.monotonic() < deadline, "nobody waits"


@pytest.mark.parametrize(
    "point", [Failpoint.SNAPSHOT_TAKEN, Failpoint.MID_COPY, Failpoint.BEFORE_COMMIT], ids=lambda point: point.value
)
def test_a_sleeping_run_is_overtaken_and_changes_nothing_when_it_wakes(
    shop: Shop, point: Failpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Money doubled or gone: a paused process that goes on after its twin has done the work."""
    warehouse = shop.stand.clone(shop.template)
    with closing(shop.start(warehouse, f"{point.value}={FROZEN}")) as sleeper:
        sleeper.freeze_at(point)
        with monkeypatch.context() as impatient:
            impatient.setattr(snapshot, "WAREHOUSE_LOCK_TIMEOUT_S", 1)
            with pytest.raises(SnapshotError, match=r"another run has been loading shop for more than 1 s: .* end it"):
                shop.load(warehouse)
        assert shop.digest(warehouse) == shop.states[0]
        # What an operator does who follows that advice, or the server when it misses the client.
        shop.stand.hang_up(warehouse)
        assert shop.again(warehouse) == 1
        assert shop.digest(warehouse) == shop.states[-1]
        sleeper.thaw()
        assert sleeper.end() == 1, sleeper.printed
    assert shop.digest(warehouse) == shop.states[-1]
    assert shop.again(warehouse) == 0


def test_a_run_that_sleeps_after_its_commit_has_done_the_work(load: Load) -> None:
    point = Failpoint.AFTER_QUARANTINE if load.template == "first_file" else Failpoint.AFTER_COMMIT
    warehouse = load.stand.clone(load.template)
    with closing(load.start(warehouse, f"{point.value}={FROZEN}")) as sleeper:
        sleeper.freeze_at(point)
        assert load.again(warehouse) == 0
        sleeper.thaw()
        assert sleeper.end() == 0, sleeper.said
    assert load.digest(warehouse) == load.states[-1]


@pytest.mark.parametrize(
    "point", [Failpoint.FILE_ENTERED, Failpoint.BEFORE_FILE_COMMIT], ids=lambda point: point.value
)
def test_a_sleeping_file_load_is_overtaken_and_changes_nothing_when_it_wakes(loads: Loads, point: Failpoint) -> None:
    landing = loads.files
    warehouse = landing.stand.clone(landing.template)
    with closing(landing.start(warehouse, f"{point.value}={FROZEN}")) as sleeper, ThreadPoolExecutor(1) as threads:
        sleeper.freeze_at(point)
        ((pid,),) = landing.stand.ask("postgres", "select pid from pg_stat_activity where datname = %s", warehouse)
        twin = threads.submit(landing.again, warehouse)
        try:
            wait_for_a_waiter(landing.stand, warehouse)
            assert landing.digest(warehouse) == landing.states[0]
        finally:
            landing.stand.execute("postgres", "select pg_terminate_backend(%s, 5000)", pid)
        assert twin.result(WAIT_S) == len(landing.states) - 1
        assert landing.digest(warehouse) == landing.states[-1]
        sleeper.thaw()
        assert sleeper.end() == 1, sleeper.printed
    assert landing.digest(warehouse) == landing.states[-1]
    assert landing.again(warehouse) == 0


@pytest.mark.parametrize("name", TABLES)
def test_a_deadlock_rolls_everything_back_and_the_retry_loads(loads: Loads, name: str) -> None:
    load: Load = getattr(loads, name)
    first, last = TABLES[name]
    warehouse = load.stand.clone(load.template)
    # Whoever looks for deadlocks first is the victim: the loader, and late enough that there is one.
    load.stand.cluster.execute(f"alter database {warehouse} set deadlock_timeout = '2s'")
    ended: list[BaseException] = []

    def run() -> None:
        try:
            load.load(warehouse)
        except BaseException as error:
            ended.append(error)

    loading = threading.Thread(target=run)
    with closing(psycopg2.connect(load.stand.cluster.dsn(warehouse))) as other, other.cursor() as cursor:
        cursor.execute("set deadlock_timeout = '1min'")
        cursor.execute(f"lock table raw.{last} in access exclusive mode")
        loading.start()
        try:
            wait_for_a_waiter(load.stand, warehouse)
            cursor.execute(f"lock table raw.{first} in access exclusive mode")
        finally:
            other.rollback()
            loading.join()
    (error,) = ended
    assert isinstance(error, errors.DeadlockDetected), error
    state = load.states.index(load.digest(warehouse))
    assert state == 0
    assert load.again(warehouse) == len(load.states) - 1
    assert load.digest(warehouse) == load.states[-1]
