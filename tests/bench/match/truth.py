"""What has to be open when, written down by the events that make it so; nothing here looks for partners.

One row an item and code: open at the closes from ``opens`` on and before ``clears``. A row whose code is AMBIGUOUS
says in ``note`` why nobody could tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple

from tests.bench.match.days import Days

EXPECTED_NOT_DUE, MISSING_OVERDUE = "EXPECTED_NOT_DUE", "MISSING_OVERDUE"


class Open(NamedTuple):
    """An item that is open under ``code`` from close ``opens`` until before ``clears`` (None: to the end)."""

    kind: str
    reconciliation: str
    side: str
    reference: str
    code: str
    opens: int
    clears: int | None
    amount_minor: int
    currency: str
    note: str


class Truth:
    """Collects what is written since it was last taken."""

    def __init__(self, days: Days) -> None:
        self.days = days
        self._rows: list[Open] = []

    def take(self) -> list[Open]:
        """Everything written since the last call."""
        rows, self._rows = self._rows, []
        return rows

    def open(
        self, kind: str, reconciliation: str, side: str, reference: str, code: str, opens: int, clears: int | None,
        amount_minor: int, currency: str, note: str = "",
    ) -> None:  # fmt: skip
        """Write a row; one that would be open at no close is none."""
        if opens < len(self.days.closes) and (clears is None or clears > opens):
            self._rows.append(
                Open(kind, reconciliation, side, reference, code, opens, clears, abs(amount_minor), currency, note)
            )

    def waits(
        self, kind: str, reconciliation: str, reference: str, amount_minor: int, currency: str, known: int,
        expected: date, due: date, seen: int | None, alone: str, covered: Sequence[date],
    ) -> None:  # fmt: skip
        """A left item that waits: not due, then overdue, until close ``seen`` knows its counterpart.

        :param alone: code once it is overdue although the other side's report for ``expected`` came.
        :param covered: close -> date up to which the other side has reported.
        """
        closes = self.days.closes
        code, since = "", known
        for close in range(known, len(closes) if seen is None else min(seen, len(closes))):
            late = alone if covered[close] >= expected else MISSING_OVERDUE
            now = EXPECTED_NOT_DUE if due >= closes[close] else late
            if code and now != code:
                self.open(kind, reconciliation, "left", reference, code, since, close, amount_minor, currency)
                since = close
            code = now
        if code:
            self.open(kind, reconciliation, "left", reference, code, since, seen, amount_minor, currency)


def pair_code(
    left: int, right: int, rounding: int, *, same_currency: bool = True, in_window: bool = True,
    price: str | None = None,
) -> str | None:  # fmt: skip
    """The one code of a capture, refund or dispute and its line that share a reference; None: they agree.

    What is wrong with the money comes first, then its date, then ``price``: what is wrong with the fee or the rate.
    """
    if not same_currency:
        return "CURRENCY_MISMATCH"
    if left == -right:
        return "DIRECTION"
    if left != right:
        if abs(left - right) <= rounding:
            return "ROUNDING"
        return "UNDER" if abs(right) < abs(left) else "OVER"
    return price if in_window else "DATE_OUT_OF_WINDOW"
