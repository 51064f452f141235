"""The ECB's wide reference rates."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest


def test_one_row_a_day_and_currency_quoted(read: Any, fixture_text: Any) -> None:
    outcome = read(fixture_text("ecb.csv"))
    assert [tuple(rate) for rate in outcome.rows["fx_rates"]] == [
        (2, "ecb", "EUR", "USD", date(2026, 10, 20), Decimal("1.0921")),
        (2, "ecb", "EUR", "JPY", date(2026, 10, 20), Decimal("163.15")),
        (3, "ecb", "EUR", "USD", date(2026, 10, 19), Decimal("1.0900")),
        (3, "ecb", "EUR", "JPY", date(2026, 10, 19), Decimal("163")),
        (3, "ecb", "EUR", "ISK", date(2026, 10, 19), Decimal("148.9")),
    ]
    assert (outcome.reading.entries, outcome.reading.statements, outcome.reading.balance) == (5, 0, "-")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("1.0921", "0", "not a rate"),
        ("1.0921", "-1.09", "not a rate"),
        ("1.0921", "1,0921", "cells beyond the header"),
        ("1.0921", "n/a", "not an exact amount"),
        ("2026-10-20", "20/10/2026", "not a date"),
        ("2026-10-20", "2026-10-32", "not a date"),
        ("2026-10-20", "2026-10-19", "a date comes twice"),
        ("USD,JPY", "USD,USD", "column twice"),
    ],
)
def test_a_wrong_rate_is_refused(old: str, new: str, reason: str, read: Any, fixture_text: Any) -> None:
    assert reason in str(read(fixture_text("ecb.csv").replace(old, new, 1)).rejected)
