"""The rules as the seeds say them, and the days they count in."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)
# What a row is called that speaks of all who have none of their own.
OTHERS = "*"


@dataclass(frozen=True)
class Reconciliation:
    """A row of the seed ``reconciliations``; its columns are described there."""

    right_sign: int
    left_alone_code: str
    right_alone_code: str
    repeat_code: str | None
    taken_back_code: str | None
    mismatch_code: str | None
    coverage: str
    checks_dates: bool
    compares_fees: bool


@dataclass(frozen=True)
class Rule:
    """A row of the seed ``match_rules``; its columns are described there."""

    rule_id: str
    reconciliation: str
    pass_no: int
    key_column: str
    pairing: str
    names_event: bool
    window_business_days: int
    early_business_days: int | None
    split_share: Decimal | None
    valid_from: date
    valid_to: date | None = None


@dataclass(frozen=True)
class Tolerance:
    """A row of the seed ``match_tolerances``: of an absolute and a relative tolerance the larger counts."""

    rule_id: str
    currency: str
    rounding_minor: int
    rounding_bps: Decimal
    fee_tolerance_minor: int
    fee_tolerance_bps: Decimal
    fx_tolerance_minor: int
    valid_from: date = date.min
    valid_to: date | None = None

    def rounding(self, ours_minor: int) -> Decimal:
        """The difference from our side that is called rounding."""
        return max(Decimal(self.rounding_minor), abs(ours_minor) * self.rounding_bps / 10_000)

    def fee(self, contracted_minor: int) -> Decimal:
        """The difference from the contracted fee that is accepted."""
        return max(Decimal(self.fee_tolerance_minor), abs(contracted_minor) * self.fee_tolerance_bps / 10_000)


NO_TOLERANCE = Tolerance("", "", 0, Decimal(0), 0, Decimal(0), 0)


@dataclass(frozen=True)
class Terms:
    """A row of the seed ``processors``, as far as it decides what a line alone is called."""

    processor: str
    cutoff_grace_seconds: int
    valid_from: date
    valid_to: date | None = None


Dated = TypeVar("Dated", Rule, Tolerance, Terms)


@dataclass(frozen=True)
class Rules:
    """The seeds that decide: reconciliations, matching rules and what they tolerate, calendars, cut-off."""

    reconciliations: Mapping[str, Reconciliation]
    match_rules: tuple[Rule, ...]
    tolerances: tuple[Tolerance, ...]
    rest_days: Mapping[str, frozenset[int]]
    holidays: frozenset[tuple[str, date]]
    processors: tuple[Terms, ...]
    zone: ZoneInfo

    def valid(self, reconciliation: str, business_date: date) -> list[Rule]:
        """The rules of a reconciliation on a business date, in the order of their passes."""
        found = [rule for rule in holding(self.match_rules, business_date) if rule.reconciliation == reconciliation]
        return sorted(found, key=lambda rule: rule.pass_no)

    def tolerance(self, rule: Rule, currency: str, business_date: date) -> Tolerance:
        """What a rule tolerates in a currency on a date: its own row, else that of all others, else nothing."""
        rows = {row.currency: row for row in holding(self.tolerances, business_date) if row.rule_id == rule.rule_id}
        return rows.get(currency) or rows.get(OTHERS) or NO_TOLERANCE

    def cutoff_grace_seconds(self, processor: str | None, day: date) -> int:
        """Seconds before the cut-off in which a processor's line may stand alone for a close."""
        rows = {row.processor: row for row in holding(self.processors, day)}
        return (rows.get(processor or "") or rows[OTHERS]).cutoff_grace_seconds

    def days_between(self, calendar: str, one: date, other: date) -> int:
        """Business days of the calendar after the earlier date, up to the later; all days where there is none."""
        earlier, later = min(one, other), max(one, other)
        days = (earlier + ONE_DAY * number for number in range(1, (later - earlier).days + 1))
        return sum(self._is_business_day(calendar, day) for day in days)

    def _is_business_day(self, calendar: str, day: date) -> bool:
        return day.isoweekday() not in self.rest_days.get(calendar, ()) and (calendar, day) not in self.holidays


def holding(rows: Iterable[Dated], day: date) -> list[Dated]:
    """The rows that hold on a day: from ``valid_from`` until the day before ``valid_to``."""
    return [row for row in rows if row.valid_from <= day and (row.valid_to is None or day < row.valid_to)]


def read_rules(seeds: Path) -> Rules:
    """The rules as the seeds in this folder say them."""
    return Rules(
        reconciliations={
            row["reconciliation"]: Reconciliation(
                right_sign=int(row["right_sign"]),
                left_alone_code=row["left_alone_code"],
                right_alone_code=row["right_alone_code"],
                repeat_code=row["repeat_code"] or None,
                taken_back_code=row["taken_back_code"] or None,
                mismatch_code=row["mismatch_code"] or None,
                coverage=row["coverage"],
                checks_dates=row["checks_dates"] == "true",
                compares_fees=row["compares_fees"] == "true",
            )
            for row in _rows(seeds, "reconciliations")
        },
        match_rules=tuple(
            Rule(
                rule_id=row["rule_id"],
                reconciliation=row["reconciliation"],
                pass_no=int(row["pass"]),
                key_column=row["key_column"],
                pairing=row["pairing"],
                names_event=row["names_event"] == "true",
                window_business_days=int(row["window_business_days"]),
                early_business_days=int(row["early_business_days"]) if row["early_business_days"] else None,
                split_share=Decimal(row["split_share"]) if row["split_share"] else None,
                **_period(row),
            )
            for row in _rows(seeds, "match_rules")
        ),
        tolerances=tuple(
            Tolerance(
                row["rule_id"], row["currency"], int(row["rounding_minor"]), Decimal(row["rounding_bps"]),
                int(row["fee_tolerance_minor"]), Decimal(row["fee_tolerance_bps"]), int(row["fx_tolerance_minor"]),
                **_period(row),
            )
            for row in _rows(seeds, "match_tolerances")
        ),
        rest_days={
            row["calendar"]: frozenset((int(row["weekend_first_iso_day"]), int(row["weekend_second_iso_day"])))
            for row in _rows(seeds, "calendars")
        },
        holidays=frozenset((row["calendar"], date.fromisoformat(row["holiday"])) for row in _rows(seeds, "holidays")),
        processors=tuple(
            Terms(row["processor"], int(row["cutoff_grace_seconds"]), **_period(row))
            for row in _rows(seeds, "processors")
        ),
        zone=ZoneInfo(_rows(seeds, "books")[0]["zone"]),
    )


def _period(row: Mapping[str, str]) -> dict[str, Any]:
    valid_to = date.fromisoformat(row["valid_to"]) if row["valid_to"] else None
    return {"valid_from": date.fromisoformat(row["valid_from"]), "valid_to": valid_to}


@cache
def _rows(seeds: Path, name: str) -> list[dict[str, str]]:
    with (seeds / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
