"""The rules as the seeds say them, and the days they count in."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

ONE_DAY = timedelta(days=1)


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
    window_business_days: int
    split_share: Decimal | None
    valid_from: date
    valid_to: date | None = None


@dataclass(frozen=True)
class Tolerance:
    """A row of the seed ``match_tolerances``: of an absolute and a relative tolerance the larger counts."""

    rounding_minor: int
    rounding_bps: Decimal
    fee_tolerance_minor: int
    fee_tolerance_bps: Decimal
    fx_tolerance_minor: int

    def rounding(self, ours_minor: int) -> Decimal:
        """The difference from our side that is called rounding."""
        return max(Decimal(self.rounding_minor), abs(ours_minor) * self.rounding_bps / 10_000)

    def fee(self, contracted_minor: int) -> Decimal:
        """The difference from the contracted fee that is accepted."""
        return max(Decimal(self.fee_tolerance_minor), abs(contracted_minor) * self.fee_tolerance_bps / 10_000)


NO_TOLERANCE = Tolerance(0, Decimal(0), 0, Decimal(0), 0)


@dataclass(frozen=True)
class Rules:
    """The seeds that decide: reconciliations, matching rules and what they tolerate, calendars, cut-off."""

    reconciliations: Mapping[str, Reconciliation]
    match_rules: tuple[Rule, ...]
    tolerances: Mapping[tuple[str, str], Tolerance]
    rest_days: Mapping[str, frozenset[int]]
    holidays: frozenset[tuple[str, date]]
    cutoff_grace_seconds: Mapping[str, int]
    zone: ZoneInfo

    def valid(self, reconciliation: str, business_date: date) -> list[Rule]:
        """The rules of a reconciliation on a business date, in the order of their passes."""
        found = [
            rule for rule in self.match_rules
            if rule.reconciliation == reconciliation
            and rule.valid_from <= business_date
            and (rule.valid_to is None or business_date < rule.valid_to)
        ]  # fmt: skip
        return sorted(found, key=lambda rule: rule.pass_no)

    def tolerance(self, rule: Rule, currency: str) -> Tolerance:
        """What a rule tolerates in a currency: its own row, else that of all others, else nothing."""
        others = self.tolerances.get((rule.rule_id, "*"), NO_TOLERANCE)
        return self.tolerances.get((rule.rule_id, currency), others)

    def days_between(self, currency: str, one: date, other: date) -> int:
        """Business days of the currency after the earlier date, up to the later; calendar days without a calendar."""
        earlier, later = min(one, other), max(one, other)
        days = (earlier + ONE_DAY * number for number in range(1, (later - earlier).days + 1))
        return sum(self._is_business_day(currency, day) for day in days)

    def _is_business_day(self, currency: str, day: date) -> bool:
        return day.isoweekday() not in self.rest_days.get(currency, ()) and (currency, day) not in self.holidays


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
                window_business_days=int(row["window_business_days"]),
                split_share=Decimal(row["split_share"]) if row["split_share"] else None,
                valid_from=date.fromisoformat(row["valid_from"]),
                valid_to=date.fromisoformat(row["valid_to"]) if row["valid_to"] else None,
            )
            for row in _rows(seeds, "match_rules")
        ),
        tolerances={
            (row["rule_id"], row["currency"]): Tolerance(
                int(row["rounding_minor"]), Decimal(row["rounding_bps"]), int(row["fee_tolerance_minor"]),
                Decimal(row["fee_tolerance_bps"]), int(row["fx_tolerance_minor"]),
            )
            for row in _rows(seeds, "match_tolerances")
        },
        rest_days={
            row["currency"]: frozenset((int(row["weekend_first_iso_day"]), int(row["weekend_second_iso_day"])))
            for row in _rows(seeds, "calendars")
        },
        holidays=frozenset((row["currency"], date.fromisoformat(row["holiday"])) for row in _rows(seeds, "holidays")),
        cutoff_grace_seconds={
            row["processor"]: int(row["cutoff_grace_seconds"]) for row in _rows(seeds, "processors")
        },
        zone=ZoneInfo(_rows(seeds, "books")[0]["zone"]),
    )


@cache
def _rows(seeds: Path, name: str) -> list[dict[str, str]]:
    with (seeds / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
