"""The truth about the sandbox's world, written from the events that made it and never by matching.

``truth.csv``: one row per item, side and break code with the business dates between which it is open. The rows of
ledger_bank hold for the closes of :data:`tieout.sandbox.days.CLOSES` alone: what agrees in total at a close that is
played depends on which are. All other rows hold at whatever dates somebody closes.
``files.csv``: one row per file with something wrong about it, and what has to become of it.
"""

from __future__ import annotations

from datetime import date

from tieout.sandbox.days import ONE_DAY, add_business_days
from tieout.sandbox.spool import Spool

COLUMNS = (
    "kind", "reconciliation", "side", "reference", "break_code", "opens_on", "clears_on", "amount_minor", "currency",
)  # fmt: skip
FILE_COLUMNS = ("kind", "file", "delivered_on", "status", "note")
TRUTH = "truth.csv"
FILES = "files.csv"
GRACE_DAYS = 1


def overdue_from(expected_on: date, calendar: str) -> date:
    """The first date on which an item is overdue whose counterpart was expected on ``expected_on``."""
    return add_business_days(expected_on, GRACE_DAYS, calendar) + ONE_DAY


class Truth:
    """Appends truth rows; a row that would be open at no close is left out."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self.rows = 0

    def start(self) -> None:
        """Write the header lines of a new world."""
        self.spool.append(TRUTH, ",".join(COLUMNS) + "\n")
        self.spool.append(FILES, ",".join(FILE_COLUMNS) + "\n")

    def open(
        self,
        kind: str,
        reconciliation: str,
        side: str,
        reference: str,
        code: str,
        opens_on: date,
        clears_on: date | None,
        amount_minor: int,
        currency: str,
    ) -> None:
        """An item is open under ``code`` at closes from ``opens_on`` on and before ``clears_on``."""
        if clears_on is not None and clears_on <= opens_on:
            return
        self.rows += 1
        self.spool.append(
            TRUTH,
            f"{kind},{reconciliation},{side},{reference},{code},{opens_on},{clears_on or ''},{amount_minor},{currency}"
            "\n",
        )

    def file(self, kind: str, name: str, delivered_on: date, status: str, note: str) -> None:
        """Something is wrong about a file; ``status`` is what the landing has to make of it."""
        self.spool.append(FILES, f"{kind},{name},{delivered_on},{status},{note}\n")

    def waiting(
        self,
        reconciliation: str,
        reference: str,
        amount_minor: int,
        currency: str,
        calendar: str,
        known_on: date,
        expected_on: date,
        seen_on: date | None,
        overdue_code: str,
        kind: str,
    ) -> None:
        """A left item that waits for its counterpart: not due for a while, then overdue, until it is seen.

        :param calendar: currency whose business days count for the grace.
        :param known_on: first close that knows the item.
        :param expected_on: business date its counterpart is expected on.
        :param seen_on: first close that sees the counterpart, None for never.
        :param overdue_code: what it is called once the grace is over.
        :param kind: label of the rows in which it is overdue.
        """
        late_from = overdue_from(expected_on, calendar)
        end = late_from if seen_on is None or seen_on > late_from else seen_on
        not_due = "EXPECTED_NOT_DUE"
        self.open(not_due, reconciliation, "left", reference, not_due, known_on, end, amount_minor, currency)
        if seen_on is None or seen_on > late_from:
            self.open(
                kind, reconciliation, "left", reference, overdue_code, max(known_on, late_from), seen_on,
                amount_minor, currency,
            )  # fmt: skip
