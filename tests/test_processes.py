"""Tests that share something run in one process, however many there are."""

from __future__ import annotations

import re
from pathlib import Path

from tests.processes import SHARED, unit_of

ROOT = Path(__file__).parents[1]
# What a test names that takes a part in what is shared.
MARKS = {
    "books": re.compile(r"\bfrom tests\.dbt\.worlds\b"),
    "default ports": re.compile(r"\bMachine\("),
    "loads": re.compile(r"\bfrom tests\.faults\.stand\b"),
}


def test_what_shares_something_is_one_unit() -> None:
    for path in (ROOT / "tests").rglob("test_*.py"):
        name, text = str(path.relative_to(ROOT)), path.read_text()
        for unit, mark in MARKS.items():
            if path != Path(__file__) and mark.search(text):
                assert unit_of(f"{name}::test_it[a::b]") == unit, name


def test_what_shares_nothing_is_a_unit_of_its_own() -> None:
    assert unit_of("tests/plugins/test_money.py::test_it") == "tests/plugins/test_money.py"


def test_every_place_that_is_named_exists() -> None:
    for place in (place for places in SHARED.values() for place in places):
        assert (ROOT / place).exists(), place
