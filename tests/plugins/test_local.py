"""The state folder of one machine: settings, ports, databases and who may enter them."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psycopg2
import pytest

from tieout import dbt_runner
from tieout.card_numbers import CardKey
from tieout.local import machine as local
from tieout.local.machine import PORT_VARIABLES, USERS_OWN, LocalError, Machine, UsageError
from tieout.postgres import ROLES, Cluster, free_port, port_is_free

ROOT = os.getuid() == 0


@pytest.fixture(autouse=True)
def no_ports_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*PORT_VARIABLES.values(), "TIEOUT_STATE", *USERS_OWN):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine in a folder of its own that only this user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="tieout-test-", dir="/tmp"))
    machine = Machine(folder / "state")
    yield machine
    machine.remove()
    shutil.rmtree(folder)


def test_settings_are_kept_for_their_owner_only(machine: Machine) -> None:
    machine.port("airflow")
    assert stat.S_IMODE((machine.state / "settings.json").stat().st_mode) == 0o600
    again = Machine(machine.state)
    assert again.settings == machine.settings
    assert len(set(again.settings.passwords.values())) == len(again.settings.passwords) >= len(ROLES)


def test_unreadable_settings_are_named(machine: Machine) -> None:
    (machine.state / "settings.json").write_text("{")
    with pytest.raises(LocalError, match=r"settings\.json cannot be read.*make clean"):
        Machine(machine.state)
    (machine.state / "settings.json").unlink()


def test_a_second_process_is_refused(machine: Machine) -> None:
    program = (
        "from pathlib import Path; from tieout.local.machine import Machine\n"
        f"with Machine(Path({str(machine.state)!r})).exclusive(): pass"
    )
    other = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(local.PROJECT / "plugins")}
    with machine.exclusive():
        refused = subprocess.run(other, env=environment, capture_output=True, text=True, check=False)
        assert f"process {os.getpid()} is at work" in refused.stderr
    assert subprocess.run(other, env=environment, check=False).returncode == 0


def test_a_port_is_remembered_and_left_when_taken(machine: Machine) -> None:
    first = machine.port("docs")
    assert Machine(machine.state).port("docs") == first
    with socket.socket() as other:
        other.bind(("127.0.0.1", first))
        other.listen()
        assert machine.port("docs") != first


def test_services_get_different_ports(machine: Machine) -> None:
    assert len({machine.port(name) for name in PORT_VARIABLES}) == len(PORT_VARIABLES)


@pytest.mark.parametrize("name", PORT_VARIABLES)
def test_a_wanted_port_in_use_is_named_with_its_variable(
    machine: Machine, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        monkeypatch.setenv(PORT_VARIABLES[name], str(taken))
        with pytest.raises(UsageError, match=f"port {taken} is in use.*{PORT_VARIABLES[name]}"):
            machine.port(name)


@pytest.mark.parametrize("wanted", ["http", "0", "65536", "-1", "١٢٣٤"])
def test_a_wanted_port_that_is_none_is_refused(machine: Machine, wanted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEOUT_AIRFLOW_PORT", wanted)
    with pytest.raises(UsageError, match="no port number"):
        machine.port("airflow")


def test_a_full_disk_is_told_before_anything_is_made(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(local.shutil, "disk_usage", lambda path: Usage(1 << 40, 1 << 40, 300 << 20))
    with pytest.raises(LocalError, match=r"300 MB left.*free some space"), machine.databases():
        pass
    assert not machine.cluster().data.exists()


def log_in(cluster: Cluster, database: str, role: str) -> None:
    psycopg2.connect(cluster.dsn(database, role)).close()


def test_databases_are_made_guarded_and_stopped(machine: Machine) -> None:
    with machine.databases() as cluster:
        machine.prepare(cluster)
        machine.prepare(cluster)
        for role in ROLES:
            log_in(cluster, "warehouse", role)
            for database in ("payments", "airflow"):
                with pytest.raises(psycopg2.OperationalError, match="permission denied"):
                    log_in(cluster, database, role)
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            log_in(cluster, "warehouse", local.EXTRACTOR)
        with cluster.connect("payments", local.PAYMENTS_OWNER) as connection, connection.cursor() as cursor:
            cursor.execute("create schema shop; create table shop.orders as select 1 as one")
        with cluster.connect("payments", local.EXTRACTOR) as connection, connection.cursor() as cursor:
            cursor.execute("select one from shop.orders")
            assert cursor.fetchall() == [(1,)]
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cursor.execute("delete from shop.orders")
            connection.rollback()
        with machine.databases() as same:
            assert same.running()
        assert cluster.running()
        port = cluster.port
    assert not cluster.running()
    assert port_is_free(port)
    with Machine(machine.state).databases() as again:
        log_in(again, "warehouse", "loader")


def test_a_server_that_a_killed_process_left_is_taken_over_and_stopped(machine: Machine) -> None:
    with machine.databases():
        pass
    left = Machine(machine.state).cluster()
    left.start()
    with Machine(machine.state).databases():
        pass
    assert left.running(), "somebody who only looks in has stopped it"
    with machine.exclusive(), machine.databases() as cluster:
        assert cluster.port == left.port
    assert not left.running()


def test_a_server_whose_passwords_are_lost_is_made_anew(machine: Machine) -> None:
    with machine.databases() as cluster:
        cluster.execute("create database lost")
    (machine.state / "settings.json").unlink()
    machine = Machine(machine.state)
    with machine.databases() as anew, pytest.raises(psycopg2.OperationalError, match="does not exist"):
        log_in(anew, "lost", "postgres")


@pytest.mark.skipif(not ROOT, reason="only root runs the server as another user")
def test_a_closed_folder_puts_the_data_where_the_server_can_reach_it(machine: Machine) -> None:
    assert not machine.cluster().directory.parent.exists()
    with machine.databases() as cluster:
        assert cluster.directory.is_relative_to("/var/tmp")
        assert cluster.directory.stat().st_uid != 0
    machine.remove()
    assert not cluster.directory.parent.exists()


@pytest.mark.skipif(not ROOT, reason="only root runs the server as another user")
def test_a_folder_somebody_else_put_there_is_refused(machine: Machine, tmp_path: Path) -> None:
    outside = machine.cluster().directory.parent
    outside.symlink_to(tmp_path)
    try:
        with pytest.raises(LocalError, match="made by someone else"):
            machine.cluster()
    finally:
        outside.unlink()


def test_the_environment_names_every_connection(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIEOUT_PG_PORT", str(free_port()))
    machine.port("postgres")
    values = machine.environment()
    assert {name for name in values if name.startswith("AIRFLOW_CONN_")} == {
        "AIRFLOW_CONN_PAYMENTS", "AIRFLOW_CONN_WAREHOUSE_LOADER",
        "AIRFLOW_CONN_WAREHOUSE_BUILDER", "AIRFLOW_CONN_WAREHOUSE_PUBLISHER",
    }  # fmt: skip
    assert values["TIEOUT_LANDING"] == machine.landing.as_uri()
    assert values["TIEOUT_PG_PORT"] == str(machine.settings.ports["postgres"])
    assert machine.settings.passwords["postgres"] not in str(values)
    assert CardKey.from_environment(values) is not None
    assert Machine(machine.state).environment()["TIEOUT_CARD_KEY"] == values["TIEOUT_CARD_KEY"]


def test_what_the_user_has_set_wins_except_in_the_sandbox(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {name: f"file:///{name}" for name in USERS_OWN}
    for name, value in mine.items():
        monkeypatch.setenv(name, value)
    values = machine.environment()
    assert {name: values[name] for name in USERS_OWN} == mine
    values = machine.environment(sandbox=True)
    assert values["TIEOUT_LANDING"] == machine.landing.as_uri()
    assert values["AIRFLOW_CONN_PAYMENTS"] == machine.cluster().dsn("payments", local.EXTRACTOR)


def test_an_empty_payment_system_or_landing_is_none_and_an_empty_schedule_is_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in USERS_OWN:
        monkeypatch.setenv(name, "")
    values = machine.environment()
    assert not local.own_payments()
    assert values["TIEOUT_LANDING"] == machine.landing.as_uri()
    assert values["AIRFLOW_CONN_PAYMENTS"] == machine.cluster().dsn("payments", local.EXTRACTOR)
    assert values["TIEOUT_CARD_KEY"] == machine.settings.passwords["card-key"]
    assert values["TIEOUT_INGEST_SCHEDULE"] == ""


@pytest.mark.parametrize("changed", ["dbt_project", "dbt_runner.py", "migrations/0001_ops.sql", "migrations/0099.sql"])
def test_new_code_is_deployed_again_and_the_same_is_not(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    package = tmp_path / "tieout"
    (package / "migrations").mkdir(parents=True)
    for name in ("dbt_runner.py", "migrations/0001_ops.sql"):
        (package / name).write_text("as it was")
    deployed: list[str] = []

    class Runner:
        def __init__(self, *_: object) -> None:
            """Needs nothing."""

        def deploy(self) -> None:
            deployed.append(machine.settings.deployed)

        def docs(self) -> Path:
            return package / "dbt_runner.py"

    monkeypatch.setattr(local, "__file__", str(package / "local" / "machine.py"))
    monkeypatch.setattr(dbt_runner, "DbtRunner", Runner)
    monkeypatch.setattr(dbt_runner, "project_digest", lambda: "project")
    machine.deploy(machine.cluster())
    machine.deploy(machine.cluster())
    assert len(deployed) == 1
    if changed == "dbt_project":
        monkeypatch.setattr(dbt_runner, "project_digest", lambda: "another")
    else:
        (package / changed).write_text("changed")
    machine.deploy(machine.cluster())
    assert len(deployed) == 2
