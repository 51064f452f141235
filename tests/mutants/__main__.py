"""Apply every fault to a copy of the dbt project, one at a time, and print which tests noticed it.

    PYTHONPATH=plugins python -m tests.mutants [part of a name or a file ...]

A fault that the oracle's worlds do not see goes on to dbt's unit tests, and then to the scenarios. Exits with 1 when
one survives all of them.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg2

from tests.dbt.oracle.facts import World
from tests.dbt.oracle.rules import read_rules
from tests.dbt.oracle.warehouse import Matching, compile_models
from tests.dbt.oracle.worlds import BUSINESS_DATES, random_world
from tests.dbt.worlds import Warehouse
from tests.mutants.catalogue import MUTANTS, ORACLE_SEES, Mutant
from tieout.dbt_runner import DbtFailed, DbtRunner
from tieout.postgres import Cluster, ensure_roles, free_port
from tieout.sources import default_project

WORLDS = 6000
REPOSITORY = Path(__file__).resolve().parents[2]
# What follows the oracle, the quicker first.
SUITES = {"unit tests": "tests/dbt/test_unit_tests.py", "scenarios": "tests/dbt/test_scenarios.py"}
SURVIVED = "SURVIVED"
# pytest's word for "tests ran and some failed"; a fixture that could not be made is an error and counts too.
FAILED = 1


class Bench:
    """One deployed warehouse, in which every mutant's SQL runs over the same worlds."""

    def __init__(self, cluster: Cluster, state: Path) -> None:
        self.state = state
        self.warehouse = Warehouse(cluster, state)
        self.warehouse.deploy()
        self.rules = read_rules(default_project() / "seeds")
        self.worlds: list[World] = [random_world(random.Random(seed)) for seed in range(WORLDS)]
        self.matching = Matching.over(self.warehouse, compile_models(self.warehouse.runner))
        unchanged = self.matching.differences(self.worlds, self.rules)
        if unchanged:
            raise SystemExit(f"the project as it is differs from the oracle: see test_oracle.py\n{unchanged[0]}")

    def killer(self, mutant: Mutant) -> str:
        """Who noticed the mutant, and how."""
        with self._project(mutant) as project:
            if mutant.file in ORACLE_SEES and (found := self._oracle(project)):
                return f"oracle: {found}"
            for name, path in SUITES.items():
                if found := _pytest(project, path):
                    return f"{name}: {found}"
        return SURVIVED

    def _oracle(self, project: Path) -> str | None:
        """How many worlds differ, or what Postgres or dbt says; nothing where no world differs."""
        try:
            runner = DbtRunner(self.warehouse.server(), self.state / "mutant", project)
            self.matching.compiled = compile_models(runner)
            # A world too many is enough: the first business date that has one is the last that is looked at.
            for business_date in BUSINESS_DATES:
                worlds = [world for world in self.worlds if world.business_date == business_date]
                if found := self.matching.differences(worlds, self.rules):
                    return f"{len(found)} of {len(worlds)} worlds"
        except (psycopg2.Error, DbtFailed) as error:
            return str(error).splitlines()[0]
        return None

    @contextmanager
    def _project(self, mutant: Mutant) -> Iterator[Path]:
        copy = self.state / "dbt_project"
        shutil.copytree(default_project(), copy, ignore=shutil.ignore_patterns("target", "logs"))
        try:
            (copy / mutant.file).write_text(mutant.text(default_project()))
            yield copy
        finally:
            shutil.rmtree(copy)
            shutil.rmtree(self.state / "mutant", ignore_errors=True)


def _pytest(project: Path, path: str) -> str | None:
    """The first test of a suite that fails over the project; nothing where all pass."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", path],
        cwd=REPOSITORY, env=os.environ | {"TIEOUT_DBT_PROJECT": str(project)}, capture_output=True, text=True,
    )  # fmt: skip
    if ran.returncode == 0:
        return None
    if ran.returncode != FAILED:
        raise SystemExit(f"{path} does not run:\n{ran.stdout}\n{ran.stderr}")
    named = [line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return named[0].split(" - ")[0].split("::")[-1] if named else "failed"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants whose names or files hold one of the parts, by default all; 1 when one survives."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("parts", nargs="*", help="run the mutants that have one of these in their name or file")
    parts = parser.parse_args(arguments).parts
    chosen = [mutant for mutant in MUTANTS if any(part in f"{mutant.name} {mutant.file}" for part in parts or [""])]
    directory = Path(tempfile.mkdtemp(prefix="tieout-mutants-", dir="/tmp"))
    # PostgreSQL runs as another user when this runs as root.
    directory.chmod(0o755)
    cluster = Cluster(directory / "pg", free_port())
    survivors = 0
    try:
        cluster.start()
        with cluster.connect() as connection:
            ensure_roles(connection)
        bench = Bench(cluster, directory / "state")
        print(f"{len(chosen)} mutants, {WORLDS} worlds", flush=True)
        for number, mutant in enumerate(chosen, 1):
            start = time.monotonic()
            killer = bench.killer(mutant)
            survivors += killer == SURVIVED
            print(f"{number:3} {time.monotonic() - start:4.0f} s  {mutant.name:56} {killer}", flush=True)
    finally:
        cluster.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants are noticed")
    return 1 if survivors or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
