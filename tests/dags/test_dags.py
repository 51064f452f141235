"""The DAG files: exactly these, owned, tagged, explained, light, and silent while they are parsed."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DAGS = PROJECT / "dags"
# What a tag asks of people: the DAG it belongs to, and how soon somebody looks when it fails.
HOSTILE_NAMES = (
    "{{ 1/0 }}", "payments; drop schema raw", "$(id)", "../payments", "", "Payments", "a" * 64, "a.b.c", "a."
)  # fmt: skip
TAGS = {"ingest", "close", "reclose", "watch", "tier-1", "tier-2"}
OWNERS = {"payments-data", "finance-control", "data-platform"}
TASKS = {
    "ingest": {"snapshot": {"files"}, "files": set()},
    "close": {
        "open": {"reconcile", "books", "publish", "monitoring"},
        "reconcile": {"books"},
        "books": {"monitoring"},
        "monitoring": {"publish"},
        "publish": set(),
    },
    "reclose": {"reclose": set()},
    "watch": {"check": {"deliver"}, "deliver": set()},
}
# Parsed in a process of its own where every socket, process and database connection raises.
PARSE = """
import json, os, socket, subprocess, sys, time
import airflow.sdk, psycopg2
from airflow.dag_processing.dagbag import DagBag

started = time.process_time()

def refuse(*args, **kwargs):
    raise AssertionError(f"a DAG file reached out while it was parsed: {args[:2]}")

socket.socket.connect = socket.create_connection = subprocess.Popen = psycopg2.connect = refuse
bag = DagBag(dag_folder=sys.argv[1], load_op_links=False)
heavy = {"dbt", "pandas", "pyarrow", "yaml_include", "slack_sdk", "tieout.extraction.snapshot", "tieout.landing.load",
         "tieout.close"}
print("RESULT" + json.dumps({
    "errors": bag.import_errors,
    "heavy": sorted(heavy & set(sys.modules)),
    "cpu_s": time.process_time() - started,
    "dags": {dag_id: {
        "owner": sorted({task.owner for task in dag.tasks}),
        "tags": sorted(dag.tags),
        "doc": dag.doc_md,
        "schedule": str(getattr(dag.timetable, "expression", None) or dag.timetable.__class__.__name__),
        "zone": str(getattr(dag.timetable, "timezone", "")),
        "catchup": dag.catchup,
        "max_active_runs": dag.max_active_runs,
        "timeout_s": dag.dagrun_timeout and dag.dagrun_timeout.total_seconds(),
        "params": {name: dag.params.get_param(name).schema for name in dag.params},
        "tasks": {task.task_id: {
            "downstream": sorted(task.downstream_task_ids),
            "type": task.task_type,
            "retries": task.retries,
            "backoff": bool(task.retry_exponential_backoff),
            "outlets": [str(outlet.uri) for outlet in task.outlets],
        } for task in dag.tasks},
        "fileloc": dag.fileloc,
    } for dag_id, dag in bag.dags.items()},
}))
"""


@cache
def parsed(folder: Path = DAGS, **schedules: str) -> dict[str, Any]:
    """All DAGs as Airflow parses them, with these schedules in the environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    with tempfile.TemporaryDirectory(prefix="tieout-airflow-") as home:
        environment |= {"AIRFLOW_HOME": home, "PYTHONPATH": str(PROJECT / "plugins"), **schedules}
        command = [sys.executable, "-c", PARSE, str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    answer = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    assert answer, done.stderr[-3000:]
    return json.loads(answer[0].removeprefix("RESULT"))  # type: ignore[no-any-return]


def dag(dag_id: str) -> dict[str, Any]:
    return parsed()["dags"][dag_id]  # type: ignore[no-any-return]


def test_exactly_these_dags_one_a_file_and_no_errors() -> None:
    assert parsed()["errors"] == {}
    assert {dag_id: Path(found["fileloc"]).name for dag_id, found in parsed()["dags"].items()} == {
        dag_id: f"{dag_id}.py" for dag_id in TASKS
    }
    assert {path.stem for path in DAGS.glob("*.py")} == set(TASKS)


def test_the_tasks_are_these_in_this_order() -> None:
    for dag_id, tasks in TASKS.items():
        found = {name: set(task["downstream"]) for name, task in dag(dag_id)["tasks"].items()}
        assert found == tasks


def test_parsing_is_light() -> None:
    assert parsed()["heavy"] == []
    # Four files; Airflow's own import is not counted.
    assert parsed()["cpu_s"] < 2.0


@pytest.mark.parametrize(
    "line",
    [
        "import socket; socket.create_connection(('127.0.0.1', 5432))",
        "import psycopg2; psycopg2.connect('postgresql://127.0.0.1/warehouse')",
        "import subprocess; subprocess.run(['true'])",
    ],
)
def test_a_dag_that_reaches_out_while_it_is_parsed_would_be_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "loud.py").write_text(f"from airflow.sdk import DAG\n{line}\nwith DAG('loud'): pass\n")
    errors = parsed(tmp_path)["errors"]
    assert len(errors) == 1
    assert "reached out while it was parsed" in str(errors)


def test_a_heavy_import_would_be_found(tmp_path: Path) -> None:
    (tmp_path / "heavy.py").write_text("from airflow.sdk import DAG\nimport pandas\nwith DAG('heavy'): pass\n")
    # pandas takes pyarrow with it.
    assert parsed(tmp_path)["heavy"] == ["pandas", "pyarrow"]


@pytest.mark.parametrize("dag_id", TASKS)
def test_a_dag_is_owned_tagged_bounded_and_retried(dag_id: str) -> None:
    found = dag(dag_id)
    assert len(found["owner"]) == 1
    assert set(found["owner"]) <= OWNERS
    assert set(found["tags"]) <= TAGS
    assert dag_id in found["tags"]
    assert len([tag for tag in found["tags"] if tag.startswith("tier-")]) == 1
    assert (found["catchup"], found["max_active_runs"]) == (False, 1)
    assert 0 < found["timeout_s"] <= 6 * 3600
    for name, task in found["tasks"].items():
        assert task["retries"] >= 1, name
        assert task["backoff"], name


@pytest.mark.parametrize("dag_id", TASKS)
def test_the_documentation_is_the_files_own_and_has_triage(dag_id: str) -> None:
    documentation = dag(dag_id)["doc"]
    assert documentation == ast.get_docstring(ast.parse((DAGS / f"{dag_id}.py").read_text()), clean=False)
    for part in (
        "### What it does", "### Triage", "May I re-run it?", "Where are the logs?", "Who owns it?", "What if it fails?"
    ):  # fmt: skip
        assert part in documentation
    # Every task is explained by name.
    for task in dag(dag_id)["tasks"]:
        assert f"`{task}`" in documentation


def test_only_the_last_task_of_ingest_tells_that_all_is_there() -> None:
    outlets = {
        f"{dag_id}.{name}": task["outlets"]
        for dag_id in TASKS
        for name, task in dag(dag_id)["tasks"].items()
        if task["outlets"]
    }
    assert outlets == {"ingest.files": ["tieout://raw/ingested"]}
    assert dag("close")["schedule"] == "AssetTriggeredTimetable"


def test_at_most_four_tasks_of_a_close_run_dbt() -> None:
    assert len([task for task in dag("close")["tasks"].values() if task["type"] == "BuildCloseOperator"]) <= 4


def test_schedules_come_from_the_environment() -> None:
    assert (dag("ingest")["schedule"], dag("ingest")["zone"]) == ("0 2 * * *", "Europe/Amsterdam")
    assert dag("watch")["schedule"] == "*/15 * * * *"
    driven = parsed(TIEOUT_INGEST_SCHEDULE="", TIEOUT_WATCH_SCHEDULE="0 6 * * *")["dags"]
    assert driven["ingest"]["schedule"] == "NullTimetable"
    assert driven["watch"]["schedule"] == "0 6 * * *"


def test_parameters_have_a_schema_and_a_format() -> None:
    assert set(dag("ingest")["params"]) == {"business_date", "interval_start", "tables", "accept_deletions"}
    assert set(dag("close")["params"]) == {"business_date"}
    for dag_id in ("ingest", "close"):
        for name, schema in dag(dag_id)["params"].items():
            if name in ("tables", "accept_deletions"):
                assert (schema["type"], schema["uniqueItems"]) == (["null", "array"], True)
                for known in ("payment_attempts", "payments.payment_attempts"):
                    assert re.fullmatch(schema["items"]["pattern"], known)
                assert not any(re.search(schema["items"]["pattern"], name) for name in HOSTILE_NAMES)
            else:
                assert schema["type"] == ["null", "string"]
                assert schema["format"] in ("date", "date-time")


def test_a_re_close_needs_a_date_a_reason_and_a_name() -> None:
    params = dag("reclose")["params"]
    assert set(params) == {"business_date", "reason", "actor"}
    assert (params["business_date"]["type"], params["business_date"]["format"]) == ("string", "date")
    for name in ("reason", "actor"):
        assert params[name]["type"] == "string"
        assert re.search(params[name]["pattern"], "a report came late")
        assert not any(re.search(params[name]["pattern"], text) for text in ("", "  ", "a\nb", "\x00"))
    # What a person types reaches no template, and nothing starts by itself.
    assert "{{" not in (DAGS / "reclose.py").read_text()
    assert dag("reclose")["schedule"] == "NullTimetable"


def test_names_of_tables_are_no_templates() -> None:
    """What a person types reaches no template: the operator reads it from the context and compares it."""
    text = (DAGS / "ingest.py").read_text()
    assert "params.tables" not in text
    assert "accept_deletions }}" not in text


@pytest.mark.parametrize("dag_id", TASKS)
def test_a_dag_file_is_thin_and_reads_nothing_but_its_schedule(dag_id: str) -> None:
    text = (DAGS / f"{dag_id}.py").read_text()
    assert len(text.splitlines()) < 100
    tree = ast.parse(text)
    imported = {
        alias.name if isinstance(node, ast.Import) else f"{node.module}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= {"__future__", "os", "datetime", "airflow.sdk", "tieout.operators",
                        "tieout.watch.operators"}  # fmt: skip
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"open", "Variable.get", "Connection.get", "BaseHook.get_connection", "Path"}


def test_no_other_module_imports_airflow() -> None:
    faces = ("tieout/operators.py", "tieout/watch/operators.py", "tieout_plugin.py")
    allowed = {PROJECT / "plugins" / face for face in faces}
    for path in (PROJECT / "plugins").rglob("*.py"):
        names = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        imports_airflow = any(name.split(".")[0] == "airflow" for name in names)
        assert imports_airflow == (path in allowed), path


def test_airflow_does_not_import_the_package_file_by_file() -> None:
    ignored = (PROJECT / "plugins/.airflowignore").read_text().splitlines()
    assert "tieout/" in ignored
