"""The sandbox's days through a real Airflow: an opening close, then day by day, until the books are published.

What `tieout run` and `tieout up` do. A run that was interrupted continues where the warehouse says it stopped:
a day counts as done when its close is published, and as watched when checks have looked at its evening.
"""

from __future__ import annotations

import functools
import os
import signal
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from tieout.local.airflow_local import Airflow, DagRun
from tieout.local.machine import LocalError, Machine, UsageError, own_payments
from tieout.postgres import Cluster

DAGS = ("ingest", "close", "watch")
BOOK = "global"
POLL_S = 0.4
# An asset event becomes a DAG run within a second or two; a scheduler that takes longer than this is stuck.
ASSET_TIMEOUT_S = 120
# States of a task worth telling somebody who waits.
SHOWN = ("running", "up_for_retry", "failed")
# What the end of a failed task's log says, and what to do about it.
REMEDIES = {
    "No space left on device": "free some space on the disk, then run again: nothing was half-loaded",
    "could not connect to server": "start the database it names, then run again",
    "Connection refused": "start the database it names, then run again",
    "remaining connection slots are reserved": "close other connections to the server, then run again",
    "Killed": "the machine ran out of memory: close something, or make the sandbox smaller (PAYMENTS_PER_DAY)",
}


class RunError(LocalError):
    """A DAG run failed; the message has the task, the end of its log and the remedy."""


@dataclass(frozen=True)
class Leg:
    """One ingest and one close of the walk.

    :param days: business days whose deliveries it takes; the last one is the close's business date.
    :param opening: whether it takes everything from the sandbox's first day on.
    """

    days: tuple[date, ...]
    opening: bool

    @property
    def business_date(self) -> date:
        """The date that the close is for."""
        return self.days[-1]


def legs() -> list[Leg]:
    """The walk: the slow start in one go, then each further business day."""
    from tieout import sandbox

    daily = [day for day in sandbox.BUSINESS_DAYS if day not in sandbox.SLOW_START]
    return [Leg(tuple(sandbox.SLOW_START), opening=True), *(Leg((day,), opening=False) for day in daily)]


def run(machine: Machine, payments_per_day: int, seed: int, console: Console) -> None:
    """Make the sandbox and take every leg that is not published yet; nothing when all are.

    :raises UsageError: the state folder holds another sandbox than the one asked for.
    :raises LocalError: something failed; the message has the remedy, and the next run continues.
    """
    asked = {"payments_per_day": payments_per_day, "seed": seed}
    with machine.exclusive(), interruptible():
        made = machine.settings.sandbox
        if made and made != asked:
            raise UsageError(
                f"{machine.state} holds a sandbox of {made['payments_per_day']:,} payments a day with seed "
                f"{made['seed']}, not {payments_per_day:,} with seed {seed}: "
                "`make clean` first, or choose another TIEOUT_STATE"
            )
        with machine.databases() as cluster:
            machine.prepare(cluster)
            if not made or left_to_do(cluster):
                _walk(machine, cluster, asked, console)
            else:
                machine.deploy(cluster)


def left_to_do(cluster: Cluster) -> list[Leg]:
    """The legs whose close is not published, or whose evening no check has looked at."""
    from tieout import sandbox

    with cluster.connect("warehouse") as connection, connection.cursor() as cursor:
        cursor.execute("select business_date from ops.published where book = %s", (BOOK,))
        published = {row[0] for row in cursor.fetchall()}
        cursor.execute("select max(as_of) from ops.findings")
        (watched,) = cursor.fetchone() or (None,)
    every = legs()
    left = [leg for leg in every if leg.business_date not in published]
    if not left and (watched is None or watched < sandbox.as_of(every[-1].business_date)):
        return every[-1:]
    return left


def _walk(machine: Machine, cluster: Cluster, asked: dict[str, int], console: Console) -> None:
    from tieout import sandbox

    # Here the days are driven one by one, so the DAGs' own clocks stand still.
    schedules = {"TIEOUT_INGEST_SCHEDULE": "", "TIEOUT_WATCH_SCHEDULE": ""}
    airflow = Airflow(machine, schedules=schedules, sandbox=True)
    with progress(console, total=3 + 3 * len(legs())) as step, ending(airflow):
        with step("creating the payment system"):
            airflow.begin()
            sandbox.create(machine.payments_dsn(cluster), machine.landing, machine.state, **asked)
            machine.settings.sandbox = asked
            machine.save()
        with step("deploying the dbt project and its docs"):
            airflow.start()
            machine.deploy(cluster)
        with step("starting Airflow"):
            airflow.wait_ready(DAGS)
            for dag_id in DAGS:
                for unfinished in airflow.runs(dag_id, ("queued", "running")):
                    airflow.give_up(unfinished)
        left = left_to_do(cluster)
        step.skip(3 * (len(legs()) - len(left)))
        for leg in left:
            _take(leg, machine, cluster, airflow, step)


def _take(leg: Leg, machine: Machine, cluster: Cluster, airflow: Airflow, step: Step) -> None:
    from tieout import sandbox

    name = f"{leg.days[0]} to {leg.business_date}, opening" if leg.opening else str(leg.business_date)
    with step(f"{name}: ingest") as told:
        sandbox.advance(machine.payments_dsn(cluster), machine.landing, machine.state, leg.business_date)
        set_clock(cluster, leg.business_date)
        earlier = {run.run_id for run in airflow.runs("close")}
        start = sandbox.starts_at(leg.days[0]).isoformat() if leg.opening else None
        conf = {"business_date": str(leg.business_date), "interval_start": start}
        wait(airflow, airflow.trigger("ingest", conf), told)
    with step(f"{name}: close") as told:
        wait_for_close(airflow, cluster, leg.business_date, earlier, told)
    with step(f"{name}: watch") as told:
        wait(airflow, airflow.trigger("watch"), told)


def set_clock(cluster: Cluster, day: date) -> None:
    """Let checks believe that it is the morning after this business day."""
    from tieout import sandbox

    with cluster.connect("warehouse") as connection, connection.cursor() as cursor:
        cursor.execute(
            "insert into ops.clock (as_of) values (%s) on conflict (only_row) do update set as_of = excluded.as_of",
            (sandbox.as_of(day),),
        )


def wait(airflow: Airflow, started: DagRun, told: Told) -> None:
    """Wait until a DAG run has succeeded.

    :param told: hears which tasks are running, and the error of one that Airflow is about to try again.
    :raises RunError: it failed.
    """
    now = started
    retried: set[str] = set()
    while not now.finished:
        airflow.check_alive()
        tasks = airflow.tasks(now)
        working = [f"{task} {state}" for task, state in tasks.items() if state in SHOWN]
        told.now(", ".join(working).replace("_", " "))
        for task in {task for task, state in tasks.items() if state == "up_for_retry"} - retried:
            retried.add(task)
            error = airflow.failure(now, task)
            told.lasting(f"{task} failed and will be tried again: {error.tail[-1] if error.tail else 'see its log'}")
        time.sleep(POLL_S)
        now = airflow.run(now)
    if now.state != "success":
        raise RunError(explain(airflow, now))


def wait_for_close(airflow: Airflow, cluster: Cluster, day: date, earlier: set[str], told: Told) -> None:
    """Wait until the asset has started a close and the close is through and published.

    :param earlier: run ids of closes from before the ingest.
    :raises RunError: the close failed, did not start, or published something else.
    """
    deadline = time.monotonic() + ASSET_TIMEOUT_S
    while not (started := [run for run in airflow.runs("close") if run.run_id not in earlier]):
        airflow.check_alive()
        if time.monotonic() > deadline:
            raise RunError(f"ingest has finished, but no close of {day} started within {ASSET_TIMEOUT_S} s")
        time.sleep(POLL_S)
    for started_run in started:
        wait(airflow, started_run, told)
    with cluster.connect("warehouse") as connection, connection.cursor() as cursor:
        cursor.execute("select from ops.published where book = %s and business_date = %s", (BOOK, day))
        if cursor.fetchone() is None:
            raise RunError(f"the close has run, but {day} is not published: see ops.closes, and `close` in Airflow")


def explain(airflow: Airflow, failed: DagRun) -> str:
    """Why a DAG run failed: task, the end of its log, the remedy, and how to go on."""
    parts = []
    for failure in airflow.failures(failed):
        text = "\n".join(failure.tail)
        remedy = next((remedy for sign, remedy in REMEDIES.items() if sign in text), None)
        parts.append(f"task {failure.task_id} of {failure.dag_id} failed:\n{text}")
        if remedy is not None:
            parts.append(f"remedy: {remedy}")
        if failure.log is not None:
            parts.append(f"whole log: {failure.log}")
    if not parts:
        parts.append(f"{failed.dag_id} failed without a failed task: see the run {failed.run_id} in Airflow")
    parts.append("the next `make run` continues here")
    return "\n".join(parts)


def clear_clock(cluster: Cluster) -> None:
    """Let checks and loads use the database's clock."""
    with cluster.connect("warehouse") as connection, connection.cursor() as cursor:
        cursor.execute("delete from ops.clock")


def schedules_up() -> dict[str, str]:
    """Schedules that serving sets: the sandbox's days are driven by `make run`, unless the user says otherwise."""
    if own_payments() or "TIEOUT_INGEST_SCHEDULE" in os.environ:
        return {}
    return {"TIEOUT_INGEST_SCHEDULE": ""}


def up(machine: Machine, console: Console) -> None:
    """Serve Airflow's UI and the docs site until interrupted.

    What the user has set of ``tieout.local.machine.USERS_OWN`` is used. With a payment system of their own, the
    sandbox's clock is taken away: their days are today's.
    """
    with machine.exclusive(), interruptible(), machine.databases() as cluster:
        machine.prepare(cluster)
        if own_payments():
            clear_clock(cluster)
            console.print("AIRFLOW_CONN_PAYMENTS is your own payment system: checks now use the database's clock.")
        airflow = Airflow(machine, schedules=schedules_up())
        with ending(airflow), console.status("starting Airflow"):
            airflow.begin()
            airflow.start()
            machine.deploy(cluster)
            with serve(machine.docs, machine.port("docs")) as docs:
                airflow.wait_ready(DAGS)
                _welcome(airflow, docs, cluster, console)
                console.print("Ctrl-C stops everything.")
                while True:
                    airflow.check_alive()
                    time.sleep(1)


def _welcome(airflow: Airflow, docs: str, cluster: Cluster, console: Console) -> None:
    console.print(f"[bold]Airflow[/]  {airflow.url}   admin / {airflow.password('admin')}")
    console.print(f"         to look only: viewer / {airflow.password('viewer')}")
    console.print(f"[bold]Docs[/]     {docs}")
    if not own_payments() and left_to_do(cluster):
        console.print("Not every close of the sandbox is published yet: `make run` does that.")


@contextmanager
def serve(folder: Path, port: int) -> Iterator[str]:
    """A web server for the files of a folder, on this machine only.

    :returns: its address.
    """

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            """Say nothing: the terminal belongs to the addresses."""

    handler = functools.partial(Quiet, directory=str(folder))
    socketserver.TCPServer.allow_reuse_address = True
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def ending(airflow: Airflow) -> Iterator[None]:
    """Stop Airflow however the block ends."""
    try:
        yield
    finally:
        airflow.stop()


class Interrupted(BaseException):
    """Somebody asked this process to stop; everything it started is stopped on the way out."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn SIGTERM, SIGHUP and Ctrl-C into an exception, once: the way out is not interrupted again."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def leave(number: int, frame: FrameType | None) -> None:
        for other in signals:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signal.Signals(number).name)

    before = {number: signal.signal(number, leave) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Told:
    """Somebody who watches a step: told what goes on now, and what should stay on the screen."""

    def __init__(self, bar: Progress, task: TaskID, name: str) -> None:
        self._bar = bar
        self._task = task
        self._name = name

    def now(self, detail: str) -> None:
        """Show what the step is doing."""
        shown = f"{self._name}  [dim]{escape(detail)}[/]" if detail else self._name
        self._bar.update(self._task, description=shown)

    def lasting(self, line: str) -> None:
        """Print a line that stays."""
        self._bar.console.print(f"[yellow]note[/] {escape(line)}", highlight=False)


class Step:
    """A progress bar's hand: ``with step("loading") as told: told.now("payments")``."""

    def __init__(self, bar: Progress, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=total)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Told]:
        """Show a step while it lasts and leave a line with its time when it is done."""
        start = time.monotonic()
        told = Told(self._bar, self._task, name)
        told.now("")
        yield told
        self._bar.console.print(f"[green]done[/] {name} [dim]{time.monotonic() - start:.1f} s[/]", highlight=False)
        self._bar.advance(self._task)

    def skip(self, count: int) -> None:
        """Count steps that an earlier run has done."""
        self._bar.advance(self._task, count)


@contextmanager
def progress(console: Console, total: int) -> Iterator[Step]:
    """A progress bar of ``total`` steps."""
    text = TextColumn("{task.description}")
    columns = (SpinnerColumn(), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), text)
    with Progress(*columns, console=console, transient=True) as bar:
        yield Step(bar, total)
