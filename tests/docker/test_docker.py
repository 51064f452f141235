"""The image and the compose file: linted and resolved by the real tools, the role script run on a real server."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import compose as compose_package
import psycopg2
import pytest

from tieout.postgres import ROLES, Cluster, free_port

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yml"
TOOLS = Path(sys.executable).parent
# The package's own script loses Compose's exit code.
COMPOSE_PROGRAM = Path(compose_package.__file__).parent / "docker-compose"
REQUIRED = sorted(set(re.findall(r"\$\{(TIEOUT_\w+):\?", COMPOSE.read_text())))


def resolve(values: dict[str, str]) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIEOUT_")}
    return subprocess.run(
        [COMPOSE_PROGRAM, "--file", COMPOSE, "config", "--format", "json"],
        env={**environment, **values}, cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def resolved() -> dict[str, Any]:
    """The compose file as Compose itself understands it."""
    done = resolve({name: f"secret-{name}" for name in REQUIRED})
    assert done.returncode == 0, done.stderr
    configuration: dict[str, Any] = json.loads(done.stdout)
    return configuration


def test_the_dockerfile_has_no_finding() -> None:
    done = subprocess.run([TOOLS / "hadolint", DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("missing", REQUIRED)
def test_nothing_starts_without_its_secrets(missing: str) -> None:
    done = resolve({name: "x" for name in REQUIRED if name != missing})
    assert done.returncode != 0
    assert missing in done.stderr


def test_there_are_secrets_to_require() -> None:
    assert {f"TIEOUT_{role.upper()}_PASSWORD" for role in ROLES} < set(REQUIRED)


def test_the_services_are_airflow_over_postgres(resolved: dict[str, Any]) -> None:
    services = resolved["services"]
    assert set(services) == {"postgres", "airflow-init", "api-server", "scheduler", "dag-processor", "triggerer"}
    for name in ("api-server", "scheduler", "dag-processor", "triggerer"):
        assert services[name]["command"][:2] == ["airflow", name]
        assert services[name]["depends_on"]["airflow-init"]["condition"] == "service_completed_successfully"
        assert "healthcheck" in services[name]


def test_the_database_keeps_its_data_where_postgres_18_has_it(resolved: dict[str, Any]) -> None:
    database = resolved["services"]["postgres"]
    assert database["image"] == "postgres:18"
    assert [mount["target"] for mount in database["volumes"] if mount["type"] == "volume"] == ["/var/lib/postgresql"]


def test_only_the_ui_is_reachable_and_only_from_this_machine(resolved: dict[str, Any]) -> None:
    published = [port for service in resolved["services"].values() for port in service.get("ports", [])]
    assert [(port["host_ip"], port["target"]) for port in published] == [("127.0.0.1", 8080)]


def test_no_secret_is_written_down(resolved: dict[str, Any]) -> None:
    for service in resolved["services"].values():
        for name, value in service["environment"].items():
            if re.search(r"PASSWORD$|SECRET|FERNET|_CONN|DSN|CARD_KEY", name):
                assert "secret-" in value, name


def test_the_image_runs_what_is_pinned_as_an_ordinary_user() -> None:
    lines = (DOCKER / "Dockerfile").read_text().splitlines()
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users == ["50000"]
    assert any("-r requirements.txt" in line for line in lines)
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    for source in re.findall(r"^COPY (?:--\S+ )?(\S+) ", "\n".join(lines), re.MULTILINE):
        assert (ROOT / source).exists(), source


def test_the_role_script_makes_roles_and_guards_databases() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tieout-test-", dir="/tmp"))
    folder.chmod(0o755)
    server = Cluster(folder / "pg", free_port(), {"postgres": "super"})
    variables = {f"TIEOUT_{role.upper()}_PASSWORD": f"it's {role}" for role in (*ROLES, "airflow_db")}
    environment = {
        **os.environ, **variables, "PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGPASSWORD": "super",
        "PATH": f"{server.bin}:{os.environ['PATH']}",
    }  # fmt: skip
    try:
        server.start()
        script = ["bash", DOCKER / "initdb" / "10-roles.sh"]
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        for role in ROLES:
            login: dict[str, Any] = {"host": "127.0.0.1", "port": server.port, "user": role, "password": f"it's {role}"}
            psycopg2.connect(**login, dbname="warehouse").close()
            with pytest.raises(psycopg2.OperationalError, match="permission denied"):
                psycopg2.connect(**login, dbname="airflow")
        unset = {name: value for name, value in environment.items() if name != "TIEOUT_READER_PASSWORD"}
        refused = subprocess.run(script, env=unset, capture_output=True, text=True, check=False)
        assert refused.returncode != 0
    finally:
        server.stop("immediate")
        shutil.rmtree(folder)
