"""Connections that are slow, cut, swallowed or refused: the run says so, and one re-run loads all."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import psutil
import psycopg2
import pytest
from psycopg2.extensions import connection as Connection

from tests.faults.conftest import Loads
from tests.faults.proxy import BLACK_HOLE, Direction, Fault, Proxy
from tests.faults.stand import Load, Shop, Stand, fill_warehouse
from tieout.extraction.snapshot import SnapshotError
from tieout.extraction.source import DEAD_PEER_OPTIONS
from tieout.postgres import Cluster

# At how many places of a direction's bytes each connection is cut.
CUTS = 40 if os.environ.get("TIEOUT_FAULTS") == "long" else 3
REMEDY = "run again: nothing was loaded"


def test_the_proxy_delays_cuts_and_ends(loads: Loads) -> None:
    """The harness itself: what it does, and that it is gone afterwards."""
    cluster = loads.extraction.stand.cluster
    with Proxy(cluster.port, Fault(latency_s=0.1)) as proxy:
        with psycopg2.connect(proxy.dsn(cluster.dsn())) as connection, connection.cursor() as cursor:
            begun = time.monotonic()
            cursor.execute("select 1")
            connection.commit()
        assert time.monotonic() - begun > 0.6, "three questions and answers, each delayed"
        assert proxy.commits == 1
        gone = proxy.dsn(cluster.dsn())
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(gone)
    with Proxy(cluster.port, Fault(after_bytes=20_000)) as proxy:
        cursor = psycopg2.connect(proxy.dsn(cluster.dsn())).cursor()
        with pytest.raises(psycopg2.OperationalError):
            cursor.execute("select repeat('x', 30000)")
    assert proxy.struck.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "proxy"]


def test_a_slow_line_changes_nothing(load: Load) -> None:
    warehouse = load.stand.clone(load.template)
    with Proxy(load.stand.cluster.port, Fault(latency_s=0.005)) as proxy:
        load.load(warehouse, dsn=proxy.dsn(load.dsn(warehouse)))
    assert load.digest(warehouse) == load.states[-1]


def test_an_acknowledgement_that_is_lost_is_not_replayed(load: Load) -> None:
    """Money doubled: a load that was committed, and is loaded again because nobody heard so."""
    quiet = load.stand.clone(load.template)
    with Proxy(load.stand.cluster.port) as proxy:
        load.load(quiet, dsn=proxy.dsn(load.dsn(quiet)))
    assert proxy.commits >= len(load.states) - 1
    ends = []
    for number in range(1, proxy.commits + 1):
        warehouse = load.stand.clone(load.template)
        with Proxy(load.stand.cluster.port, Fault(lost_commit=number)) as losing, pytest.raises(psycopg2.Error):
            load.load(warehouse, dsn=losing.dsn(load.dsn(warehouse)))
        assert losing.executed.is_set(), "the server never had that COMMIT"
        state = load.states.index(load.digest(warehouse))
        ends.append(state)
        written = rows_as_written(load, warehouse)
        assert load.again(warehouse) == len(load.states) - 1 - state
        assert load.digest(warehouse) == load.states[-1]
        # What was committed is the very same row, not one that looks like it.
        assert written <= rows_as_written(load, warehouse)
    assert ends == sorted(ends)
    assert set(range(1, len(load.states))) <= set(ends), "no answer was lost after a change"


def rows_as_written(load: Load, warehouse: str) -> set[tuple[str, ...]]:
    """Every manifest entry with the transaction and the number it was written under."""
    return {
        *load.stand.ask(warehouse, "select 'batch', b::text, b.xmin::text from ops.batches b"),
        *load.stand.ask(warehouse, "select 'file', f::text, f.xmin::text from ops.files f"),
    }


@pytest.mark.parametrize("direction", ["to server", "to client"])
@pytest.mark.parametrize("line", ["source", "warehouse", "landing"])
def test_a_line_that_is_cut_anywhere_costs_one_rerun(loads: Loads, line: str, direction: Direction) -> None:
    load: Load = loads.files if line == "landing" else loads.extraction
    port = load.stand.cluster.port

    def run(warehouse: str, proxy: Proxy) -> None:
        if line == "source":
            loads.extraction.load(warehouse, source_dsn=proxy.dsn(load.stand.cluster.dsn("shop")))
        else:
            load.load(warehouse, dsn=proxy.dsn(load.dsn(warehouse)))

    with Proxy(port) as quiet:
        run(load.stand.clone(load.template), quiet)
    whole = quiet.passed[direction]
    cut = 0
    for place in range(1, CUTS + 1):
        warehouse = load.stand.clone(load.template)
        raised = False
        with Proxy(port, Fault(after_bytes=whole * place // (CUTS + 1), direction=direction)) as proxy:
            try:
                run(warehouse, proxy)
            except (psycopg2.Error, SnapshotError):
                raised = True
        cut += proxy.struck.is_set()
        assert raised == proxy.struck.is_set()
        state = load.states.index(load.digest(warehouse))
        assert line == "landing" or proxy.commits or state == 0
        assert load.again(warehouse) == len(load.states) - 1 - state
        assert load.digest(warehouse) == load.states[-1]
    assert cut == CUTS


# --- A source that does not answer any more ---


def test_a_source_that_accepts_and_says_nothing_is_given_up(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = shop.stand.clone(shop.template)
    monkeypatch.setitem(DEAD_PEER_OPTIONS, "connect_timeout", 2)
    begun = time.monotonic()
    with Proxy(shop.stand.cluster.port, BLACK_HOLE) as proxy:
        with pytest.raises(SnapshotError, match=rf"(?s)source shop .*connecting failed.*timeout.*{REMEDY}"):
            shop.load(warehouse, source_dsn=proxy.dsn(shop.stand.cluster.dsn("shop")))
        assert proxy.struck.is_set()
    assert time.monotonic() - begun < 15
    assert shop.again(warehouse) == 1
    assert shop.digest(warehouse) == shop.states[-1]


def test_a_source_that_vanishes_from_the_network_is_noticed(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """No packet comes back, not even one that says the connection is closed."""
    warehouse = shop.stand.clone(shop.template)
    assert DEAD_PEER_OPTIONS["keepalives_idle"] <= 60, "a dead peer is noticed within minutes"
    for option, seconds in {"keepalives_idle": 1, "keepalives_interval": 1, "keepalives_count": 2}.items():
        monkeypatch.setitem(DEAD_PEER_OPTIONS, option, seconds)
    monkeypatch.setitem(DEAD_PEER_OPTIONS, "tcp_user_timeout", 3000)
    # After the catalogue was read, amid the rows.
    with Proxy(shop.stand.cluster.port, Fault(after_bytes=100_000, then="hang")) as proxy:
        begun = time.monotonic()
        with pytest.raises(SnapshotError, match=r"reading orders failed.*[Rr]un again: nothing was loaded"):
            shop.load(warehouse, source_dsn=proxy.dsn(shop.stand.cluster.dsn("shop")))
        assert proxy.struck.is_set()
    assert time.monotonic() - begun < 30
    assert shop.digest(warehouse) == shop.states[0]
    assert shop.again(warehouse) == 1
    assert shop.digest(warehouse) == shop.states[-1]


# --- A server that lets nobody in ---


def refused_with(stand: Stand, said: str, held: list[Connection]) -> None:
    """Connect until the server refuses to; it must say why."""
    def connect() -> None:
        for _ in range(500):
            held.append(psycopg2.connect(stand.cluster.dsn()))

    with pytest.raises(psycopg2.OperationalError, match=said):
        connect()


def fill(stack: ExitStack, stand: Stand, left: int) -> None:
    """Take every connection the server has to give, but so many."""
    held: list[Connection] = []
    refused_with(stand, "too many clients", held)
    for connection in held[:left]:
        connection.close()
    for connection in held[left:]:
        stack.callback(connection.close)
    # A closed connection's slot is free once its backend is gone.
    connection = held[left]
    deadline = time.monotonic() + 30
    with connection, connection.cursor() as cursor:
        while True:
            cursor.execute("select count(*) from pg_stat_activity where datname = 'postgres'")
            if (cursor.fetchone() or (0,))[0] == len(held) - left:
                return
            assert time.monotonic() < deadline
            cursor.execute("select pg_stat_clear_snapshot(), pg_sleep(0.02)")


@pytest.mark.parametrize("left", [0, 1], ids=["no connection left", "one of two left"])
def test_a_source_without_a_free_connection_is_named(shop: Shop, left: int) -> None:
    warehouse = shop.stand.clone(shop.template)
    loader = psycopg2.connect(shop.dsn(warehouse))
    with ExitStack() as stack:
        fill(stack, shop.stand, left)
        with pytest.raises(SnapshotError, match=rf"(?s)source shop .*too many clients already.*{REMEDY}"):
            shop.extract(loader)
    loader.close()
    assert shop.digest(warehouse) == shop.states[0]
    assert shop.again(warehouse) == 1
    assert shop.digest(warehouse) == shop.states[-1]


def refused_by_the_operator(load: Load, warehouse: str, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    """The warehouse's connection, opened as every operator does: an error that Airflow retries, with the remedy."""
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from tieout import operators

    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_LOADER", load.dsn(warehouse))
    with (
        pytest.raises(AirflowException, match=rf"(?s)the warehouse does not answer.*{said}.*Start it") as caught,
        operators.warehouse(operators.LOADER),
    ):
        pass
    assert not isinstance(caught.value, AirflowFailException), "it would not be tried again"


def test_a_warehouse_without_a_free_connection_is_named(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    warehouse = load.stand.clone(load.template)
    with ExitStack() as stack:
        fill(stack, load.stand, 0)
        refused_by_the_operator(load, warehouse, monkeypatch, "too many clients already")
    assert load.again(warehouse) == len(load.states) - 1
    assert load.digest(warehouse) == load.states[-1]


def startup_process(stand: Stand) -> psutil.Process | None:
    """The process that replays the log, while the server starts after a crash."""
    with suppress(FileNotFoundError, ValueError, psutil.NoSuchProcess):
        postmaster = psutil.Process(int((stand.cluster.data / "postmaster.pid").read_text().split("\n", 1)[0]))
        for process in postmaster.children():
            if " ".join(process.cmdline()).startswith("postgres: startup"):
                return process
    return None


@contextmanager
def starting_up(stand: Stand) -> Iterator[None]:
    """The server killed, and held amid its recovery."""
    # Enough to replay that the process which does it can be caught.
    stand.execute(
        "postgres", "create table public.ballast as select i, repeat('x', 500) from generate_series(1, 60000) i"
    )
    stand.cluster.stop("immediate")
    starting = threading.Thread(target=stand.cluster.start)
    starting.start()
    replaying = None
    try:
        deadline = time.monotonic() + 30
        while replaying is None:
            assert time.monotonic() < deadline, "nobody replays the log"
            replaying = startup_process(stand)
        replaying.send_signal(signal.SIGSTOP)
        yield
    finally:
        if replaying is not None:
            replaying.send_signal(signal.SIGCONT)
        starting.join()
    stand.execute("postgres", "drop table public.ballast")


def test_a_server_that_is_starting_up_is_named(
    loads: Loads, cluster: Cluster, database: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = loads.extraction
    # The shop's server starts: its warehouse is on the other one.
    name = database("elsewhere")
    fill_warehouse(cluster, name, shop.registry)
    with closing(psycopg2.connect(cluster.dsn(name, "loader"))) as loader:
        with starting_up(shop.stand):
            # What it says depends on how far the recovery has come.
            starting = "database system is (starting up|not yet accepting connections)"
            with pytest.raises(SnapshotError, match=rf"(?s)source shop .*{starting}.*{REMEDY}"):
                shop.extract(loader)
            for load in loads:
                refused_by_the_operator(load, load.template, monkeypatch, starting)
        with loader, loader.cursor() as cursor:
            cursor.execute("select count(*) from ops.batches")
            assert cursor.fetchall() == [(0,)]
        assert [batch.outcome for batch in shop.extract(loader)] == ["loaded"] * len(shop.registry.tables)


def test_a_server_that_is_shutting_down_is_named(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = loads.extraction
    warehouse = shop.stand.clone(shop.template)
    loader = psycopg2.connect(shop.dsn(warehouse))
    # It waits for the sessions that are open, and takes no new one.
    stopping = threading.Thread(target=shop.stand.cluster.stop, args=("smart",))
    stopping.start()
    try:
        refused_with(shop.stand, "shutting down", [])
        with pytest.raises(SnapshotError, match=rf"(?s)source shop .*database system is shutting down.*{REMEDY}"):
            shop.extract(loader)
        for load in loads:
            refused_by_the_operator(load, load.template, monkeypatch, "database system is shutting down")
    finally:
        loader.close()
        stopping.join()
        shop.stand.cluster.start()
    assert shop.digest(warehouse) == shop.states[0]
    assert shop.again(warehouse) == 1
    assert shop.digest(warehouse) == shop.states[-1]
