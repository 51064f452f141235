"""The README is true: its paths exist, its tables equal the project, its numbers are the sandbox's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tieout.sandbox import BUSINESS_DAYS, KINDS, SLOW_START, market

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MARTS = ROOT / "dbt_project" / "models" / "marts"
LIST_DAGS = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(dag_folder=sys.argv[1], load_op_links=False)
print("DAGS" + json.dumps({
    dag_id: [getattr(dag.timetable, "expression", None), sorted({task.owner for task in dag.tasks})]
    for dag_id, dag in bag.dags.items()
}))
"""


def table(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its head."""
    section = README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 2, f"no table below {heading!r}"
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_linked_and_named_paths_exist() -> None:
    linked = re.findall(r"\]\(([^)]+)\)", README)
    tree = [m[1] for m in re.finditer(r"^    (\w[\w/]*/)  +\S", README, re.MULTILINE)]
    assert len(linked) >= 3
    assert {"dags/", "plugins/tieout/", "dbt_project/", "docker/", "tests/"} <= set(tree)
    missing = [path for path in [*linked, *tree, "docker/compose.yml"] if not (ROOT / path).exists()]
    assert missing == []


def test_quoted_figures_are_measured_ones() -> None:
    """Each row of figures stands in a table that a benchmark wrote."""
    measured = {line for path in ROOT.glob("tests/bench/*/results.md") for line in path.read_text().splitlines()}
    section = README.split("\n## Never a row lost, and how fast\n", 1)[1].split("\n## ", 1)[0]
    quoted = [line for line in section.splitlines() if re.match(r"\| (?!-)", line)]
    assert len(quoted) > 5
    assert [line for line in quoted if line not in measured] == []


def test_make_targets_exist() -> None:
    named = set(re.findall(r"`?make ([a-z]+)", README))
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"run", "test", "up", "clean"} <= named
    assert named <= targets


def test_the_dag_table_equals_the_dagbag() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("TIEOUT_", "AIRFLOW"))}
    with tempfile.TemporaryDirectory(prefix="tieout-airflow-") as home:
        done = subprocess.run(
            [sys.executable, "-c", LIST_DAGS, str(ROOT / "dags")],
            env={**environment, "AIRFLOW_HOME": home, "PYTHONPATH": str(ROOT / "plugins")},
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("DAGS"))
    bag = {dag_id: (schedule, owners) for dag_id, (schedule, owners) in json.loads(line[4:]).items()}
    said = {
        dag_id.strip("`"): (schedule.strip("`") if "`" in schedule and "after" not in schedule else None, [owner])
        for dag_id, schedule, _what, owner in table("DAGs")
    }
    assert said == bag


def test_every_published_mart_answers_a_question() -> None:
    marts = {path.stem for path in MARTS.rglob("*.sql")}
    named = {name for _question, where in table("What it answers") for name in re.findall(r"`published\.(\w+)`", where)}
    assert len(marts) > 8
    assert named == marts


@pytest.mark.parametrize("path", sorted(MARTS.rglob("*.yml")), ids=lambda path: path.stem)
def test_every_mart_has_an_owner_and_a_grain(path: Path) -> None:
    for model in yaml.safe_load(path.read_text()).get("models", []):
        assert model["config"]["meta"]["owner"]
        assert model["description"].startswith("One row per ")


def test_the_sandbox_is_as_large_as_said() -> None:
    words = {"three": 3, "seven": 7, "ten": 10}
    said = re.search(
        r"\((\d+) markets, (\d+) currencies, (\d+) processors, (\d+) banks, with more than (\d+) kinds", README
    )
    assert said is not None
    markets, currencies, processors, banks, kinds = map(int, said.groups())
    assert (markets, currencies, processors, banks) == (
        len(market.MARKETS),
        len({m.currency for m in market.MARKETS.values()}),
        len(market.PROCESSOR_LAG_DAYS),
        len(market.BANK_ACCOUNTS),
    )
    assert len(KINDS) > kinds
    assert f"of {next(w for w, n in words.items() if n == len(BUSINESS_DAYS))} business days" in README
    assert len(SLOW_START) == words["seven"]
