"""A real Airflow on one machine: its processes, and its REST API as a client sees it.

No import of Airflow: the processes are started as anyone would from a shell, each in a session of its own,
so that everything they start can be found and stopped again.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx
import psutil

from tieout.local.machine import AIRFLOW_OWNER, PROJECT, LocalError, Machine

PROCESSES = ("api-server", "scheduler", "dag-processor")
# What the API's health page must call healthy.
PARTS = ("metadatabase", "scheduler", "dag_processor")
USERS = {"admin": "admin", "viewer": "viewer"}
# Four imports of Airflow on two busy cores.
READY_TIMEOUT_S = 180
# A task killed in the middle has committed nothing; its own end takes longer than anyone wants to wait.
STOP_TIMEOUT_S = 5
UNFINISHED = ("queued", "running")
TAIL_LINES = 25


class AirflowError(LocalError):
    """Airflow did not come up, died, or refused a request; the message names the log to read."""


@dataclass(frozen=True)
class DagRun:
    """A DAG run as the API shows it."""

    dag_id: str
    run_id: str
    state: str

    @property
    def finished(self) -> bool:
        """Whether it will not change any more by itself."""
        return self.state not in UNFINISHED


@dataclass(frozen=True)
class TaskFailure:
    """A failed task and what is needed to act on it.

    :param log: path of the log of its last try, None when it never wrote one.
    :param tail: that log's last lines, as plain text.
    """

    dag_id: str
    run_id: str
    task_id: str
    log: Path | None
    tail: list[str]


class Airflow:
    """Airflow's api-server, scheduler and dag-processor over a machine's state folder.

    :param machine: its server must be running, its databases prepared.
    :param dags: folder of DAG files.
    :param schedules: ``TIEOUT_INGEST_SCHEDULE`` and the like for the DAGs, as environment variables; above the user's.
    :param sandbox: use the sandbox's payment system and landing, whatever the user has set.
    """

    def __init__(
        self,
        machine: Machine,
        dags: Path = PROJECT / "dags",
        schedules: Mapping[str, str] | None = None,
        sandbox: bool = False,
    ) -> None:
        self.machine = machine
        self.dags = dags
        self.schedules = dict(schedules or {})
        self.sandbox = sandbox
        self.home = machine.state / "airflow"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._migration: subprocess.Popen[bytes] | None = None
        self._client: httpx.Client | None = None

    @property
    def url(self) -> str:
        """Where the UI is served."""
        return f"http://127.0.0.1:{self.machine.settings.ports['airflow']}"

    def password(self, user: str) -> str:
        """The password of one of :data:`USERS`."""
        return self.machine.settings.passwords[f"airflow:{user}"]

    def begin(self) -> None:
        """Choose ports, write the users' passwords, and let the metadata's migration run in the background."""
        self.machine.port("airflow")
        self.machine.port("task_logs")
        passwords = self.machine.settings.passwords
        for name in (*(f"airflow:{user}" for user in USERS), "airflow-secret", "airflow-jwt"):
            passwords.setdefault(name, secrets.token_urlsafe(12))
        self.machine.save()
        self.home.mkdir(parents=True, exist_ok=True)
        file = self.home / "passwords.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({user: self.password(user) for user in USERS}))
        self.stop_leftovers()
        if self._migrated_version() != airflow_version():
            self._migration = self._spawn("db", "migrate")

    def start(self) -> None:
        """Start the processes once the metadata is migrated; :meth:`wait_ready` tells when they answer."""
        if self._migration is not None:
            if self._migration.wait() != 0:
                raise AirflowError(f"`airflow db migrate` failed:\n{self._tail('db')}")
            self._migration = None
            (self.home / "migrated").write_text(airflow_version())
        for name in PROCESSES:
            self._processes[name] = self._spawn(name)
        self._record()

    def wait_ready(self, dag_ids: Collection[str]) -> None:
        """Wait until the API answers, scheduler and dag-processor are alive, and these DAGs are known.

        :raises AirflowError: a process died, a DAG file cannot be imported, or it took too long.
        """
        deadline = time.monotonic() + READY_TIMEOUT_S
        missing: set[str] = set(dag_ids)
        while True:
            self.check_alive()
            try:
                health = self._request("GET", "/api/v2/monitor/health", login=False)
                alive = all(health[part]["status"] == "healthy" for part in PARTS)
                known = {dag["dag_id"] for dag in self._request("GET", "/api/v2/dags?limit=100")["dags"]}
                missing = set(dag_ids) - known
                if alive and not missing:
                    return
                self._raise_import_errors()
            except httpx.TransportError:
                alive = False
            if time.monotonic() > deadline:
                what = f"DAGs {', '.join(sorted(missing))} did not appear" if alive else "Airflow did not come up"
                raise AirflowError(f"{what} within {READY_TIMEOUT_S} s: read the logs in {self.machine.logs}")
            time.sleep(0.3)

    def stop(self) -> None:
        """Stop every process and everything it started; none is left when this returns."""
        if self._client is not None:
            self._client.close()
            self._client = None
        started = [*self._processes.values(), *([self._migration] if self._migration else [])]
        end_sessions({process.pid for process in started})
        for process in started:
            process.wait()
        self._processes.clear()
        self._migration = None
        (self.home / "processes.json").unlink(missing_ok=True)

    def stop_leftovers(self) -> None:
        """Stop what an earlier caller, killed before it could, has left running."""
        try:
            recorded: dict[str, float] = json.loads((self.home / "processes.json").read_text())
        except (FileNotFoundError, ValueError):
            return
        end_sessions({int(pid) for pid, created in recorded.items() if self._ours(int(pid), created)})

    def _ours(self, leader: int, created: float) -> bool:
        """Whether the session led by this process id is the one that was started here at that time."""
        try:
            began: float = psutil.Process(leader).create_time()
            return abs(began - created) < 1
        except psutil.NoSuchProcess:
            # A session outlives its leader: what is left of ours is younger than it was, and knows our folder.
            left = _session_members({leader})
        try:
            return all(
                process.create_time() > created - 1 and process.environ().get("AIRFLOW_HOME") == str(self.home)
                for process in left
            )
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return False

    def check_alive(self) -> None:
        """
        :raises AirflowError: one of the processes has ended.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise AirflowError(f"airflow {name} ended with code {process.returncode}:\n{self._tail(name)}")

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None) -> DagRun:
        """Start a run of a DAG now.

        :param conf: parameters, e.g. ``{"business_date": "2026-10-28"}``.
        """
        body = {"logical_date": None, "conf": dict(conf or {})}
        return _run(self._request("POST", f"/api/v2/dags/{dag_id}/dagRuns", body))

    def run(self, run: DagRun) -> DagRun:
        """The same run as it is now."""
        return _run(self._request("GET", f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}"))

    def runs(self, dag_id: str, states: Collection[str] = ()) -> list[DagRun]:
        """Runs of a DAG, newest first, at most 100."""
        query = "".join(f"&state={state}" for state in states)
        answer = self._request("GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=100&order_by=-run_after{query}")
        return [_run(item) for item in answer["dag_runs"]]

    def tasks(self, run: DagRun) -> dict[str, str]:
        """State of each task of a run (of the worst of its mapped instances), in the order they started."""
        answer = self._request("GET", f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances?limit=100")
        found = sorted(answer["task_instances"], key=lambda task: task["start_date"] or "9999")
        states: dict[str, str] = {}
        for task in found:
            if states.get(task["task_id"]) != "failed":
                states[task["task_id"]] = task["state"] or "waiting"
        return states

    def give_up(self, run: DagRun) -> None:
        """Mark an unfinished run failed: the process that worked on it is gone."""
        self._request("PATCH", f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}", {"state": "failed"})

    def failures(self, run: DagRun) -> list[TaskFailure]:
        """The failed tasks of a run with the ends of their logs."""
        return [self.failure(run, task_id) for task_id, state in self.tasks(run).items() if state == "failed"]

    def failure(self, run: DagRun, task_id: str) -> TaskFailure:
        """One task's failure with the end of its last try's log."""
        folder = self.home / "logs" / f"dag_id={run.dag_id}" / f"run_id={run.run_id}" / f"task_id={task_id}"
        logs = sorted(folder.rglob("attempt=*.log"), key=lambda path: path.stat().st_mtime)
        if not logs:
            return TaskFailure(run.dag_id, run.run_id, task_id, None, [])
        tail = log_tail(logs[-1].read_text(errors="replace"))
        return TaskFailure(run.dag_id, run.run_id, task_id, logs[-1], tail)

    def _request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, login: bool = True
    ) -> dict[str, Any]:
        if self._client is None:
            self._client = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        if login and "Authorization" not in self._client.headers:
            answer = self._client.post("/auth/token", json={"username": "admin", "password": self.password("admin")})
            if answer.status_code not in (200, 201):
                raise AirflowError(f"Airflow refused the login of admin ({answer.status_code}): {answer.text[:300]}")
            self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        answer = self._client.request(method, path, json=body)
        if answer.is_error:
            raise AirflowError(f"Airflow answered {answer.status_code} to {method} {path}: {answer.text[:500]}")
        return cast("dict[str, Any]", answer.json())

    def _raise_import_errors(self) -> None:
        errors = self._request("GET", "/api/v2/importErrors")["import_errors"]
        if errors:
            first = errors[0]
            raise AirflowError(f"the DAG file {first['filename']} cannot be imported:\n{first['stack_trace']}")

    def _spawn(self, *arguments: str) -> subprocess.Popen[bytes]:
        self.machine.logs.mkdir(parents=True, exist_ok=True)
        with (self.machine.logs / f"airflow-{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "airflow", *arguments],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=self.environment(), cwd=PROJECT, start_new_session=True,
            )  # fmt: skip

    def _record(self) -> None:
        created = {str(process.pid): psutil.Process(process.pid).create_time() for process in self._processes.values()}
        (self.home / "processes.json").write_text(json.dumps(created))

    def _tail(self, name: str) -> str:
        path = self.machine.logs / f"airflow-{name}.log"
        return "\n".join([*path.read_text(errors="replace").splitlines()[-TAIL_LINES:], f"whole log: {path}"])

    def _migrated_version(self) -> str:
        try:
            return (self.home / "migrated").read_text()
        except FileNotFoundError:
            return ""

    def environment(self) -> dict[str, str]:
        """Airflow's settings on top of the machine's own, for every process started here."""
        cluster = self.machine.cluster()
        passwords = self.machine.settings.passwords
        metadata = cluster.dsn("airflow", AIRFLOW_OWNER).replace("postgresql://", "postgresql+psycopg2://", 1)
        sections: dict[str, dict[str, object]] = {
            "CORE": {
                "EXECUTOR": "LocalExecutor",
                "PARALLELISM": "4",
                "DAGS_FOLDER": self.dags,
                "PLUGINS_FOLDER": PROJECT / "plugins",
                "LOAD_EXAMPLES": False,
                "DAGS_ARE_PAUSED_AT_CREATION": False,
                "SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
                "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self.home / "passwords.json",
                "EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            },
            "DATABASE": {"SQL_ALCHEMY_CONN": metadata, "SQL_ALCHEMY_POOL_SIZE": 3},
            "API": {
                "HOST": "127.0.0.1",
                "PORT": self.machine.settings.ports["airflow"],
                "BASE_URL": self.url,
                "WORKERS": 1,
                "SECRET_KEY": passwords["airflow-secret"],
            },
            "API_AUTH": {"JWT_SECRET": passwords["airflow-jwt"] * 3},
            "LOGGING": {
                "BASE_LOG_FOLDER": self.home / "logs",
                "DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": self.home / "logs" / "dag_processor",
                "WORKER_LOG_SERVER_PORT": self.machine.settings.ports["task_logs"],
                "COLORED_CONSOLE_LOG": False,
            },
            "SCHEDULER": {"SCHEDULER_IDLE_SLEEP_TIME": 0.3, "CATCHUP_BY_DEFAULT": False},
            "DAG_PROCESSOR": {"PARSING_PROCESSES": 1, "MIN_FILE_PROCESS_INTERVAL": 60, "REFRESH_INTERVAL": 60},
            "USAGE_DATA_COLLECTION": {"ENABLED": False},
        }
        settings = {
            f"AIRFLOW__{section}__{name}": str(value)
            for section, values in sections.items()
            for name, value in values.items()
        }
        own = {"AIRFLOW_HOME": str(self.home), "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **self.machine.environment(self.sandbox), **self.schedules, **own, **settings}


def airflow_version() -> str:
    """The installed version, which the metadata database must have been migrated to."""
    from importlib.metadata import version

    return version("apache-airflow-core")


def log_tail(text: str) -> list[str]:
    """The last lines of a task's log up to its error, as plain text: Airflow writes one JSON object a line."""
    lines: list[str] = []
    last_error = 0
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            lines.append(line)
            continue
        event = str(record.get("event", ""))
        if not event.startswith(("::group::", "::endgroup::")):
            lines.extend(event.splitlines())
        for error in record.get("error_detail") or []:
            lines.extend(f"{error.get('exc_type')}: {error.get('exc_value')}".rstrip().splitlines())
            last_error = len(lines)
    return lines[: last_error or None][-TAIL_LINES:]


def end_sessions(leaders: Collection[int]) -> None:
    """End every process of the sessions that these process ids lead: asked first, killed after a while."""
    wanted = set(leaders) - {os.getsid(0)}
    if not wanted:
        return
    gone_after = time.monotonic() + STOP_TIMEOUT_S
    for process in _session_members(wanted):
        _signal(process, kill=False)
    while members := _session_members(wanted):
        if time.monotonic() > gone_after:
            for process in members:
                _signal(process, kill=True)
        time.sleep(0.1)


def _session_members(leaders: set[int]) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter(["status"]):
        try:
            if os.getsid(process.pid) in leaders and process.info["status"] != psutil.STATUS_ZOMBIE:
                members.append(process)
        except (ProcessLookupError, PermissionError):
            continue
    return members


def _signal(process: psutil.Process, kill: bool) -> None:
    try:
        if kill:
            process.kill()
        else:
            process.terminate()
    except psutil.NoSuchProcess:
        return


def _run(item: Mapping[str, Any]) -> DagRun:
    return DagRun(item["dag_id"], item["dag_run_id"], item["state"])
