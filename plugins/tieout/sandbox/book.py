"""The system's own book against the bank, account by account and day by day: sums alone, and where they disagree.

A day on which both moved an account alike is settled at once. The others stay open until a close at which all open
days of the account come to the same total on both sides, and what was settled stays so.
"""

from __future__ import annotations

from datetime import date

from tieout.sandbox.days import CLOSES, add_business_days
from tieout.sandbox.market import BANK_ACCOUNTS
from tieout.sandbox.state import WorldState
from tieout.sandbox.truth import Truth, overdue_from

RECONCILIATION = "ledger_bank"
BOOK, BANK = 0, 1
SIDES = {BOOK: "left", BANK: "right"}


def moved(state: WorldState, by: int, currency: str, day: date, amount_minor: int) -> None:
    """The system's book (``BOOK``) or the bank (``BANK``) moved an account on ``day``; positive is money in."""
    sums = state.disagreeing.setdefault(currency, {}).setdefault(day.isoformat(), [None, None])
    sums[by] = (sums[by] or 0) + amount_minor


def close_day(day: date, state: WorldState, truth: Truth) -> None:
    """Settle the day where both sides agree; when it is closed, write what is open on which side of each account."""
    for currency in BANK_ACCOUNTS:
        days = state.disagreeing.get(currency, {})
        sums = days.get(day.isoformat())
        if sums is not None and _difference(sums) == 0:
            del days[day.isoformat()]
        if day not in CLOSES:
            continue
        if sum(map(_difference, days.values())) == 0:
            days.clear()
        _write(day, currency, days, truth)


def _difference(sums: list[int | None]) -> int:
    return (sums[BOOK] or 0) - (sums[BANK] or 0)


def _write(close: date, currency: str, days: dict[str, list[int | None]], truth: Truth) -> None:
    later = [day for day in CLOSES if day > close]
    clears_on = later[0] if later else None
    sides = [side for side in SIDES if any(sums[side] is not None for sums in days.values())]
    for moved_on, sums in sorted(days.items()):
        for side in sides:
            amount_minor = sums[side]
            if amount_minor is None:
                continue
            code = "BALANCE_DIFFERENCE" if len(sides) == 2 else "BANK_NOT_LEDGER"
            if sides == [BOOK]:
                # Each day a bank works it sends a statement, so what is overdue is missing in one.
                expected_on = add_business_days(date.fromisoformat(moved_on), 0, currency)
                code = "LEDGER_NOT_BANK" if close >= overdue_from(expected_on, currency) else "EXPECTED_NOT_DUE"
            truth.open(
                code, RECONCILIATION, SIDES[side], f"{BANK_ACCOUNTS[currency].number}:{moved_on}", code, close,
                clears_on, amount_minor, currency,
            )  # fmt: skip
