"""The benchmark's world by itself: the same from the same seed, with every fault and every code in it."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable

import pytest

from tests.bench.match.days import codes
from tests.bench.match.plan import Plan, usual
from tests.bench.match.score import Score
from tests.bench.match.truth import pair_code
from tests.bench.match.unseen import unseen
from tests.bench.match.world import World

PAYMENTS = 2_000


def digest(plan: Plan) -> str:
    """A hash of everything a world delivers and says."""
    found = hashlib.sha256()
    for delivery in World(plan).play():
        found.update(repr((delivery.ledger, delivery.files, delivery.truth)).encode())
    return found.hexdigest()


@pytest.mark.parametrize("plan", [usual, unseen])
def test_a_seed_is_one_world(plan: Callable[[int, int], Plan]) -> None:
    assert digest(plan(7, PAYMENTS)) == digest(plan(7, PAYMENTS))
    assert digest(plan(7, PAYMENTS)) != digest(plan(8, PAYMENTS))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_every_code_is_planted_by_a_fault(number: int) -> None:
    world = World(usual(number, PAYMENTS))
    planted = Counter(row.code for delivery in world.play() for row in delivery.truth)
    assert codes() - planted.keys() == set(), "codes that no fault plants"
    reports, treasury, book = world.reports, world.treasury, world.book
    dealt = [reports.deck, reports.pairs, reports.negatives, reports.restated, treasury.payout_faults,
             treasury.conversion_faults, book.faults, book.alone]  # fmt: skip
    left = [card for deck in dealt for card in deck.cards]
    assert left == [], "planned and never dealt"


def test_what_nobody_can_tell_says_why() -> None:
    undecidable = [row for delivery in World(usual(1, PAYMENTS)).play() for row in delivery.truth
                   if row.code == "AMBIGUOUS"]  # fmt: skip
    assert undecidable
    assert all(row.note for row in undecidable)


def test_bank_statements_follow_on_each_other() -> None:
    balances: dict[str, int] = {}
    for delivery in World(usual(1, PAYMENTS)).play():
        for file in delivery.files:
            for statement in file.tables.get("bank_statements", []):
                moved = sum(row["amount_minor"] for row in file.tables.get("bank_entries", []))
                account = statement["bank_account"]
                assert statement["opening_minor"] == balances.get(account, statement["opening_minor"])
                assert statement["closing_minor"] == statement["opening_minor"] + moved
                balances[account] = statement["closing_minor"]
    assert len(balances) == 6


def test_money_goes_before_dates_and_dates_before_fees() -> None:
    assert pair_code(100, 100, 1) is None
    assert pair_code(100, 99, 1, in_window=False, price="FEE_VARIANCE") == "ROUNDING"
    assert pair_code(100, 98, 1, price="FEE_VARIANCE") == "UNDER"
    assert pair_code(-100, -102, 1, in_window=False) == "OVER"
    assert pair_code(-100, 100, 1, in_window=False) == "DIRECTION"
    assert pair_code(100, 100, 1, same_currency=False, in_window=False) == "CURRENCY_MISMATCH"
    assert pair_code(100, 100, 1, in_window=False, price="FEE_VARIANCE") == "DATE_OUT_OF_WINDOW"
    assert pair_code(100, 100, 1, price="FEE_VARIANCE") == "FEE_VARIANCE"


def test_one_item_under_another_code_is_not_perfect() -> None:
    score = Score()
    score.matrix["UNDER", "UNDER"] = 9
    assert score.is_perfect
    score.matrix["UNDER", "OVER"] = 1
    assert not score.is_perfect
    assert score.of("UNDER") == (10, 9, 9)
    assert score.of("OVER") == (0, 1, 0)
