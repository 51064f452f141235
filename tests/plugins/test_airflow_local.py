"""A real Airflow with two small DAGs: started, asked for runs over REST, stopped without a trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from tieout import postgres
from tieout.local import airflow_local, walkthrough
from tieout.local.airflow_local import Airflow, AirflowError, end_sessions, log_tail
from tieout.local.machine import AIRFLOW_OWNER, PORT_VARIABLES, Machine
from tieout.postgres import ensure_database, ensure_roles

DAGS = """
    from datetime import timedelta
    from airflow.sdk import Asset, dag, task

    ARRIVED = Asset(name="arrived", uri="tieout://test/arrived")

    @dag(dag_id="first", schedule=None, params={"business_date": "none"})
    def first():
        @task(outlets=[ARRIVED], retries=1, retry_delay=timedelta(seconds=2))
        def load(params=None):
            if params["business_date"] == "bad":
                raise RuntimeError("table payments lost its column id: No space left on device")
            if params["business_date"] == "slow":
                import time
                time.sleep(600)
        load()
    first()

    @dag(dag_id="second", schedule=[ARRIVED])
    def second():
        @task
        def build():
            pass
        build()
    second()
"""


class Quiet(walkthrough.Told):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def now(self, detail: str) -> None:
        self.lines.append(detail)

    def lasting(self, line: str) -> None:
        self.lines.append(line)


@pytest.fixture(scope="module")
def airflow() -> Iterator[Airflow]:
    """A running Airflow over a machine of its own."""
    folder = Path(tempfile.mkdtemp(prefix="tieout-test-", dir="/tmp"))
    dags = folder / "dags"
    dags.mkdir()
    (dags / "small.py").write_text(dedent(DAGS))
    with pytest.MonkeyPatch.context() as patch:
        for variable in PORT_VARIABLES.values():
            patch.delenv(variable, raising=False)
        machine = Machine(folder / "state")
        try:
            with machine.databases() as cluster:
                with cluster.connect() as connection:
                    ensure_roles(connection, {AIRFLOW_OWNER: machine.settings.passwords[AIRFLOW_OWNER]})
                ensure_database(cluster, "airflow", AIRFLOW_OWNER)
                airflow = Airflow(machine, dags)
                try:
                    airflow.begin()
                    airflow.start()
                    airflow.wait_ready(["first", "second"])
                    yield airflow
                finally:
                    airflow.stop()
        finally:
            machine.remove()
            shutil.rmtree(folder)


def test_a_run_and_the_run_its_asset_starts_succeed(airflow: Airflow) -> None:
    earlier = {run.run_id for run in airflow.runs("second")}
    run = airflow.trigger("first", {"business_date": "2026-10-27"})
    walkthrough.wait(airflow, run, Quiet())
    assert airflow.tasks(run) == {"load": "success"}
    deadline = time.monotonic() + 30
    while not (started := [run for run in airflow.runs("second") if run.run_id not in earlier]):
        assert time.monotonic() < deadline, "the asset started no run"
        time.sleep(0.2)
    walkthrough.wait(airflow, started[0], Quiet())


def test_a_failed_task_is_shown_with_its_log_and_the_remedy(airflow: Airflow) -> None:
    told = Quiet()
    with pytest.raises(walkthrough.RunError) as failure:
        walkthrough.wait(airflow, airflow.trigger("first", {"business_date": "bad"}), told)
    assert any(line.startswith("load failed and will be tried again: RuntimeError: table") for line in told.lines)
    message = str(failure.value)
    assert "task load of first failed" in message
    assert "table payments lost its column id" in message
    assert "remedy: free some space" in message
    assert Path(message.split("whole log: ")[1].splitlines()[0]).exists()


def test_an_abandoned_run_is_given_up(airflow: Airflow) -> None:
    run = airflow.trigger("first", {"business_date": "slow"})
    while airflow.run(run).state != "running":
        time.sleep(0.2)
    airflow.give_up(run)
    assert airflow.run(run).state == "failed"


def test_what_airflow_refuses_is_told(airflow: Airflow) -> None:
    with pytest.raises(AirflowError, match="404 to POST"):
        airflow.trigger("nonsense")


def test_strangers_and_viewers_may_not_trigger(airflow: Airflow) -> None:
    import httpx

    body = {"logical_date": None, "conf": {}}
    with httpx.Client(base_url=airflow.url, trust_env=False) as client:
        assert client.post("/api/v2/dags/first/dagRuns", json=body).status_code == 401
        login = {"username": "viewer", "password": airflow.password("viewer")}
        token = client.post("/auth/token", json=login).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post("/api/v2/dags/first/dagRuns", json=body, headers=headers).status_code == 403


def test_stopping_leaves_no_process_and_a_dead_one_is_noticed(airflow: Airflow) -> None:
    run = airflow.trigger("first", {"business_date": "slow"})
    while airflow.tasks(run).get("load") != "running":
        time.sleep(0.2)
    leaders = [psutil.Process(process.pid) for process in airflow._processes.values()]
    ours = [*leaders, *(child for leader in leaders for child in leader.children(recursive=True))]
    assert len(ours) > len(airflow_local.PROCESSES)
    scheduler = airflow._processes["scheduler"]
    scheduler.kill()
    scheduler.wait()
    with pytest.raises(AirflowError, match="airflow scheduler ended with code -9"):
        airflow.check_alive()
    airflow.stop()
    _, alive = psutil.wait_procs(ours, timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
    assert postgres.port_is_free(airflow.machine.settings.ports["airflow"])


def test_processes_of_a_killed_caller_are_stopped(tmp_path: Path, airflow: Airflow) -> None:
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    try:
        created = psutil.Process(left.pid).create_time()
        (airflow.home / "processes.json").write_text(f'{{"{left.pid}": {created}, "{stranger.pid}": {created - 60}}}')
        airflow.stop_leftovers()
        assert left.wait(timeout=5) == -signal.SIGTERM
        assert stranger.poll() is None
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()


def test_a_session_that_outlived_its_leader_is_stopped_when_it_is_ours(tmp_path: Path) -> None:
    airflow = Airflow(Machine(tmp_path / "state"))
    airflow.home.mkdir(parents=True)
    orphaning = "import subprocess, sys; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    orphans = {}
    recorded = {}
    try:
        for home in (airflow.home, tmp_path):
            environment = {**os.environ, "AIRFLOW_HOME": str(home)}
            command = [sys.executable, "-c", orphaning]
            with subprocess.Popen(
                command, start_new_session=True, stdout=subprocess.PIPE, env=environment, text=True
            ) as leader:
                recorded[str(leader.pid)] = psutil.Process(leader.pid).create_time()
                assert leader.stdout is not None
                orphans[home] = psutil.Process(int(leader.stdout.readline()))
        (airflow.home / "processes.json").write_text(json.dumps(recorded))
        airflow.stop_leftovers()
        assert not orphans[airflow.home].is_running() or orphans[airflow.home].status() == psutil.STATUS_ZOMBIE
        assert orphans[tmp_path].is_running()
    finally:
        for orphan in orphans.values():
            if orphan.is_running():
                orphan.kill()


def test_a_users_own_settings_reach_airflow_except_in_the_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_PAYMENTS", "postgresql://me@127.0.0.1/shop")
    monkeypatch.setenv("TIEOUT_WATCH_SCHEDULE", "0 6 * * *")
    machine = Machine(tmp_path / "state")
    machine.settings.ports = {"airflow": 1, "task_logs": 2}
    machine.settings.passwords |= {"airflow-secret": "s", "airflow-jwt": "j"}
    values = Airflow(machine).environment()
    assert values["AIRFLOW_CONN_PAYMENTS"] == "postgresql://me@127.0.0.1/shop"
    assert values["TIEOUT_WATCH_SCHEDULE"] == "0 6 * * *"
    values = Airflow(machine, schedules={"TIEOUT_WATCH_SCHEDULE": ""}, sandbox=True).environment()
    assert "extractor" in values["AIRFLOW_CONN_PAYMENTS"]
    assert values["TIEOUT_WATCH_SCHEDULE"] == ""


def test_a_process_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(airflow_local, "STOP_TIMEOUT_S", 0.3)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        end_sessions({process.pid})
        assert process.wait() == -signal.SIGKILL


def test_our_own_session_is_never_ended() -> None:
    end_sessions({os.getsid(0)})


def test_a_log_is_shown_up_to_its_error() -> None:
    log = "\n".join(
        [
            '{"event": "::group::Pre Execute"}',
            '{"event": "loading payments"}',
            "a line that is no JSON",
            '{"event": "Task failed", "error_detail": [{"exc_type": "ValueError", "exc_value": "no rate\\nfor SEK"}]}',
            '{"event": "what is said after it"}',
        ]
    )
    shown = ["loading payments", "a line that is no JSON", "Task failed", "ValueError: no rate", "for SEK"]
    assert log_tail(log) == shown
