"""The catalogue of faults keeps up with the project: what it would replace is still there."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.mutants.catalogue import MUTANTS, Mutant
from tieout.sources import default_project


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_changes_its_file(mutant: Mutant) -> None:
    assert mutant.text(default_project()) != (default_project() / mutant.file).read_text()


def test_every_step_of_the_money_path_has_mutants() -> None:
    files = Counter(mutant.file for mutant in MUTANTS)
    assert len(MUTANTS) >= 30
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    matching = {path.stem for path in (default_project() / "models/intermediate/matching").glob("int_*_items.sql")}
    assert matching - {file.split("/")[-1].removesuffix(".sql") for file in files} == {"int_decided_items"}
