"""What one close looks at, and how it may end an item; amounts in minor units, dates business dates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

LEFT, RIGHT = "left", "right"


@dataclass(frozen=True)
class Item:
    """One row of ``int_items``; amounts in minor units. The columns that decide nothing are left out."""

    item_key: str
    reconciliation: str
    side: str
    item_type: str
    amount_minor: int
    currency: str
    clearing_account: str
    value_date: date
    calendar: str | None = None
    strong_key: str | None = None
    weak_key: str | None = None
    pool_key: str | None = None
    processor: str | None = None
    processor_account: str | None = None
    bank_account: str | None = None
    method_type: str | None = None
    network: str | None = None
    market: str | None = None
    occurred_at: datetime | None = None
    expected_date: date | None = None
    due_date: date | None = None
    fee_minor: int | None = None
    fee_currency: str | None = None
    interchange_minor: int | None = None
    scheme_fee_minor: int | None = None
    fx_variance_minor: int | None = None
    is_rate_missing: bool = False
    intrinsic_code: str | None = None
    correction_reason: str | None = None
    exclusion_reason: str | None = None
    is_reversal: bool = False
    is_carried: bool = False
    carried_break_code: str | None = None
    first_seen_business_date: date | None = None
    last_changed_business_date: date | None = None
    batch_id: int = 1


@dataclass(frozen=True)
class Earlier:
    """What an earlier close of the chain made of a right item: whether a match had a right side, and a left one too."""

    item_key: str
    reconciliation: str
    strong_key: str | None
    weak_key: str | None = None
    value_date: date | None = None
    was_reported: bool = False
    was_paired: bool = False
    exclusion_reason: str | None = None
    amount_minor: int = 0


@dataclass(frozen=True)
class Contract:
    """A contracted fee: basis points and minor units, from ``valid_from`` until the day before ``valid_to``.

    The words are those of the source YAML.
    """

    fee_schedule_id: str
    processor: str
    method_type: str
    network: str
    market: str
    currency: str
    pct_bps: Decimal
    fixed_minor: int
    valid_from: date
    valid_to: date | None = None
    fee_type: str = "processing"
    item_type: str = "capture"
    billing: str = "settlement"
    pricing: str = "blended"
    tier_basis: str = "line_amount"
    tier_from_minor: int = 0
    charged_per: str = "item"
    minimum_minor: int | None = None
    maximum_minor: int | None = None


@dataclass(frozen=True)
class Volume:
    """What a close learned was captured in a month, whose first day is given; ``abandoned`` as in :class:`World`."""

    processor: str
    method_type: str
    network: str
    market: str
    currency: str
    capture_month: date
    captured_minor: int
    is_abandoned: bool = False


@dataclass(frozen=True)
class World:
    """Everything one close looks at. ``covered_until``: (processor or "bank", account) -> last reported date."""

    business_date: date
    items: tuple[Item, ...]
    earlier: tuple[Earlier, ...] = ()
    # Rows of a close that is no ancestor of this one: they must not matter.
    abandoned: tuple[Earlier, ...] = ()
    contracts: tuple[Contract, ...] = ()
    volumes: tuple[Volume, ...] = ()
    covered_until: Mapping[tuple[str, str], date] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How an item ends: ``code`` is the break code or the reason of the exclusion, ``group`` the keys of its match."""

    status: str
    code: str | None = None
    rule_id: str | None = None
    group: frozenset[str] = frozenset()
    expected_fee_minor: int | None = None
    fee_variance_minor: int | None = None
    clearing_minor: int = 0
    first_seen_business_date: date | None = None
    last_changed_business_date: date | None = None
