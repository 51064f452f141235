"""dbt's own unit tests: each step of the money logic on a handful of rows."""

from __future__ import annotations

import pytest

from tests.dbt.worlds import Warehouse
from tieout.dbt_runner import NodeResult

TESTED = {"int_matches", "int_expected_fees", "int_ledger_items", "break_register", "journal_proposed",
          "proof_exceptions"}  # fmt: skip


@pytest.fixture(scope="session")
def results(deployed: Warehouse) -> list[NodeResult]:
    """Every unit test of the project, as dbt ran it."""
    return deployed.runner.run(["test", "--select", "test_type:unit"], name="unit-tests")


def test_every_unit_test_of_dbt_passes(results: list[NodeResult]) -> None:
    assert len(results) >= 8
    failed = {result.node: result.message for result in results if result.status != "pass"}
    assert failed == {}


def test_the_money_path_has_unit_tests(deployed: Warehouse) -> None:
    manifest = deployed.runner.manifest()
    assert {test.model for test in manifest.unit_tests.values()} >= TESTED
